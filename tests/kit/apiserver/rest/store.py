"""What the API server keeps: objects, one version counter for all of them, and the history that watches read.

Objects are immutable once stored and are kept as the bytes that go over the wire, so that listing 10,000 of them is a
join, and an event is a prefix and a suffix. A past state is found by undoing the history from the present one: that
makes pages consistent, and makes them expire together with the history, as in etcd.

All methods may be called from any thread; whoever waits for changes registers a callback with `Store.subscribe`.
"""

import threading
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import NamedTuple

import msgspec

from tests.kit.apiserver.kinds import KINDS, Json, Kind, kind_of

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder().decode
_version_of = attrgetter("version")
_IDENTITY = ("name", "generateName", "namespace", "uid")
_LIVES_OUTSIDE_THE_BODY = ("kind", "apiVersion", "metadata")


class Stored(NamedTuple):
    """One object at one version. ``body`` is its JSON without kind and apiVersion, as items of a list are."""

    kind: Kind
    key: str
    version: int
    body: bytes
    version_start: int
    version_end: int
    uid: str
    created: str
    labels: Mapping[str, str]
    fields: Mapping[str, str]

    def typed_body(self, version: int | None = None) -> bytes:
        """The JSON with kind and apiVersion; with another resourceVersion than its own if one is given."""
        body = self.body
        if version is not None:
            body = b"%b%d%b" % (body[: self.version_start], version, body[self.version_end :])
        kind = self.kind
        return b'{"kind":"%b","apiVersion":"%b",%b' % (kind.name.encode(), kind.api_version.encode(), body[1:])

    def decoded(self) -> Json:
        """The object as a dict of its own."""
        result: Json = _decode(self.typed_body())
        return result


class Event(NamedTuple):
    """One change: from ``old`` to ``new``, either of which is None where the object did not exist."""

    version: int
    old: Stored | None
    new: Stored | None


class ExpiredError(Exception):
    """The history asked for is gone; ``floor`` is the oldest version that changes can still be told from."""

    def __init__(self, floor: int) -> None:
        super().__init__(floor)
        self.floor = floor


@dataclass
class _Table:
    """All objects of one kind, with the latest changes."""

    objects: dict[str, Stored] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    floor: int = 0  # changes up to this version are forgotten
    sorted_states: dict[int, list[Stored]] = field(default_factory=dict)  # by version; the last few that were listed

    def copy(self) -> "_Table":
        return _Table(dict(self.objects), list(self.log), self.floor)


class Snapshot(NamedTuple):
    """The whole store at one moment, to come back to later."""

    version: int
    tables: Mapping[str, _Table]


class Store:
    """Objects of all kinds. ``history`` is how many changes of each kind are remembered, at least."""

    def __init__(self, *, history: int = 20_000, first_version: int = 1_000) -> None:
        self.lock = threading.RLock()  # held by whoever must read and write in one step
        self.history = history
        self._version = first_version
        self._tables = {_table_key(kind): _Table(floor=first_version) for kind in KINDS}
        self._listeners: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        """The version of the last change of anything."""
        with self.lock:
            return self._version

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called after every change, in the changing thread; returns what ends that."""
        with self.lock:
            self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def put(self, obj: Json, *, version: int | None = None) -> Stored:
        """Store an object as it is, new or changed. It gets a uid and a creation time if it has none.

        ``version`` jumps the counter ahead, so that a test can repeat a history exactly.

        Raises:
            ValueError: unknown kind, no name, or a version that has passed.
        """
        kind = kind_of(obj)
        meta = dict(obj.get("metadata") or {})
        if not meta.get("name"):
            raise ValueError(f"{kind.name} without metadata.name")
        if kind.namespaced:
            meta.setdefault("namespace", "default")
        key = kind.key(meta.get("namespace", ""), meta["name"])
        with self.lock:
            table = self._tables[_table_key(kind)]
            old = table.objects.get(key)
            _stamp(meta, old)
            new = _make_stored(kind, key, obj, meta, self._next_version(version))
            table.objects[key] = new
            self._record(table, Event(new.version, old, new))
        return new

    def delete(self, kind: Kind, namespace: str, name: str, *, version: int | None = None) -> Stored | None:
        """Remove an object; returns it as it was, or None if there is none."""
        with self.lock:
            table = self._tables[_table_key(kind)]
            old = table.objects.pop(kind.key(namespace, name), None)
            if old is not None:
                self._record(table, Event(self._next_version(version), old, None))
        return old

    def replace_all(self, objects: Iterable[Json]) -> None:
        """Make these the only objects, by as many changes as that takes (equal objects are not touched)."""
        with self.lock:
            wanted = {_full_key(obj): obj for obj in objects}
            for kind in KINDS:
                for stored in list(self._tables[_table_key(kind)].objects.values()):
                    if (_table_key(kind), stored.key) not in wanted:
                        self.delete(kind, *_split_key(kind, stored.key))
            for (table_key, key), obj in wanted.items():
                old = self._tables[table_key].objects.get(key)
                if old is None or not same_content(old.decoded(), obj):
                    self.put(obj)

    def get(self, kind: Kind, namespace: str, name: str) -> Stored | None:
        """One object, or None."""
        with self.lock:
            return self._tables[_table_key(kind)].objects.get(kind.key(namespace, name))

    def state(self, kind: Kind, version: int | None = None) -> list[Stored]:
        """All objects of a kind at a version (default: now), sorted by key. The list must not be changed.

        Raises:
            ExpiredError: the history does not reach back to ``version``.
        """
        with self.lock:
            table = self._tables[_table_key(kind)]
            version = self._version if version is None else version
            if version < table.floor:
                raise ExpiredError(table.floor)
            position = bisect_right(table.log, version, key=_version_of)
            effective = table.log[position - 1].version if position else table.floor
            if effective not in table.sorted_states:
                while len(table.sorted_states) >= 4:
                    del table.sorted_states[next(iter(table.sorted_states))]
                table.sorted_states[effective] = _undo(table.objects, table.log[position:])
            return table.sorted_states[effective]

    def events_since(self, kind: Kind, version: int) -> list[Event]:
        """All changes of a kind after a version, oldest first.

        Raises:
            ExpiredError: some of them are forgotten.
        """
        with self.lock:
            table = self._tables[_table_key(kind)]
            if version < table.floor:
                raise ExpiredError(table.floor)
            return table.log[bisect_right(table.log, version, key=_version_of) :]

    def compact(self, version: int | None = None) -> None:
        """Forget all changes up to a version (default: all so far)."""
        with self.lock:
            limit = self._version if version is None else min(version, self._version)
            for table in self._tables.values():
                table.floor = max(table.floor, limit)
                del table.log[: bisect_right(table.log, limit, key=_version_of)]
                table.sorted_states.clear()

    def advance(self, version: int | None = None) -> int:
        """Let time pass: something else in the cluster changed, and the counter with it."""
        with self.lock:
            self._version = self._next_version(version)
            self._tell()
            return self._version

    def snapshot(self) -> Snapshot:
        """Remember everything as it is now."""
        with self.lock:
            return Snapshot(self._version, {key: table.copy() for key, table in self._tables.items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back: older objects and an older counter, as after a backup of etcd was put back."""
        with self.lock:
            self._version = snapshot.version
            self._tables = {key: table.copy() for key, table in snapshot.tables.items()}
            self._tell()

    def new_epoch(self, first_version: int = 1) -> None:
        """Number everything anew from a low version and without history, as after etcd was set up again."""
        with self.lock:
            everything = [stored.decoded() for table in self._tables.values() for stored in table.objects.values()]
            self._version = first_version
            self._tables = {_table_key(kind): _Table(floor=first_version) for kind in KINDS}
            for obj in everything:
                self.put(obj)

    def _next_version(self, wanted: int | None) -> int:
        if wanted is None:
            return self._version + 1
        if wanted <= self._version:
            raise ValueError(f"version {wanted} has passed: the counter is at {self._version}")
        return wanted

    def _record(self, table: _Table, event: Event) -> None:
        self._version = event.version
        table.log.append(event)
        if len(table.log) > 2 * self.history:
            table.floor = table.log[-self.history - 1].version
            del table.log[: -self.history]
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def same_content(one: Json, other: Json) -> bool:
    """Tell whether two objects differ only in what the server itself writes into metadata."""

    def content(obj: Json) -> Json:
        own = ("resourceVersion", "uid", "creationTimestamp")
        return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in own}}

    return content(one) == content(other)


def now() -> str:
    """The time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _table_key(kind: Kind) -> str:
    return f"{kind.plural}.{kind.group}"


def _full_key(obj: Json) -> tuple[str, str]:
    kind = kind_of(obj)
    meta = obj["metadata"]
    return _table_key(kind), kind.key(meta.get("namespace", "default"), meta["name"])


def _split_key(kind: Kind, key: str) -> tuple[str, str]:
    first, _, second = key[1:].partition("/")
    return (first, second) if kind.namespaced else ("", first)


def _stamp(meta: Json, old: Stored | None) -> None:
    meta["uid"] = meta.get("uid") or (str(uuid.uuid4()) if old is None else old.uid)
    meta["creationTimestamp"] = meta.get("creationTimestamp") or (now() if old is None else old.created)


def _make_stored(kind: Kind, key: str, obj: Json, meta: Json, version: int) -> Stored:
    """Encode in the order a real server uses: identity, resourceVersion, creation time, the rest of metadata."""
    identity = _encode({name: meta[name] for name in _IDENTITY if name in meta})
    rest = {"creationTimestamp": meta["creationTimestamp"]}
    rest.update((name, value) for name, value in meta.items() if name not in _IDENTITY and name != "resourceVersion")
    content = _encode({name: value for name, value in obj.items() if name not in _LIVES_OUTSIDE_THE_BODY})
    head = b'{"metadata":' + identity[:-1] + b',"resourceVersion":"'
    number = str(version).encode()
    tail = b'",' + _encode(rest)[1:] + (b"," if content != b"{}" else b"") + content[1:]
    labels = {name: str(value) for name, value in (meta.get("labels") or {}).items()}
    fields = {"metadata.name": meta["name"], "metadata.namespace": meta.get("namespace", "")}
    fields.update((path, _dig(obj, path)) for path in kind.fields)
    return Stored(
        kind,
        key,
        version,
        head + number + tail,
        len(head),
        len(head) + len(number),
        meta["uid"],
        meta["creationTimestamp"],
        labels,
        fields,
    )


def _dig(obj: Json, path: str) -> str:
    value: object = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _undo(objects: Mapping[str, Stored], later: list[Event]) -> list[Stored]:
    """The state before some changes, sorted."""
    past = dict(objects)
    for event in reversed(later):
        if event.old is not None:
            past[event.old.key] = event.old
        elif event.new is not None:
            del past[event.new.key]
    return [past[key] for key in sorted(past)]
