"""The Secrets that something names, and no others.

Where that is permitted, all Secrets of type kubernetes.io/tls are watched, and those that nobody names are let pass
by unkept; one that comes to be named later is fetched then. Where it is not, the named ones are fetched, again and
again: for that, RBAC need permit no more than ``get`` of these Secrets (``resourceNames``). Which ones it denies is
said, once, and everything else goes on.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

import msgspec

from kproxy import logs
from kproxy.api.decode import DecodeError, decode_object
from kproxy.api.kinds import ObjectKind
from kproxy.api.sink import Sink
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.failures import ApiError, RefusedError
from kproxy.api.types import ApiObject, ObjectKey, Problem
from kproxy.api.watch.versions import is_older
from kproxy.faults.containment import contained
from kproxy.ingress.api.core import TLS_SECRET_TYPE, Secret
from kproxy.ingress.api.kinds import IngressKind

FETCH_SECONDS = 15.0
"""How often named Secrets are looked at that cannot be watched."""
RETRY_SECONDS = 2.0
"""How soon a fetch is tried again that failed for a reason that may pass."""

_log = logs.get("secrets")


class NamedSecrets:
    """A sink between the watch of Secrets and the one who uses them, and a thread that fetches what the watch lacks.

    To its right it behaves like any source: it calls the methods of ``sink``, from threads of its own.
    """

    def __init__(self, client: ApiClient, sink: Sink, fetch_seconds: float = FETCH_SECONDS) -> None:
        self._client = client
        self._sink = sink
        self._fetch_seconds = fetch_seconds
        self._lock = threading.RLock()
        self._named: frozenset[ObjectKey] = frozenset()
        self._held: dict[ObjectKey, str] = {}
        """The resource versions of what the sink has."""
        self._missing: set[ObjectKey] = set()
        """What is named and has yet to be fetched."""
        self._listed = False
        """Whether the sink has had a complete set: nothing is delivered before."""
        self._watched = False
        """Whether the watch has seen any Secret: then it sees all of them."""
        self._denied: set[ObjectKey] = set()
        self._asked: ObjectKey | None = None
        """What is being fetched, until the watch tells of it: its word counts more than an answer on its way."""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="secrets", daemon=True)

    def start(self) -> None:
        """Begin to fetch."""
        self._thread.start()

    def stop(self) -> None:
        """Fetch nothing more."""
        self._stopping.set()
        self._wake.set()

    @property
    def settled(self) -> bool:
        """Whether of every Secret that is named the sink has what there is, or cannot have it."""
        with self._lock:
            return self._listed and not self._missing

    def name(self, keys: Iterable[ObjectKey]) -> None:
        """Take note of all the Secrets that are named now; those that no longer are will be forgotten."""
        with self._lock:
            before, self._named = self._named, frozenset(keys)
            self._missing = (self._missing | (self._named - before)) & self._named
            for key in self._held.keys() - self._named:
                self._drop(key)
            self._denied &= self._named
        self._wake.set()

    # --- what the watch brings ---------------------------------------------------------------------------------------

    def replace(self, kind: ObjectKind, objects: Mapping[ObjectKey, ApiObject]) -> None:
        """Take a complete list. An empty one may mean that listing is not permitted: then all are fetched."""
        with self._lock:
            self._listed = True
            self._watched = bool(objects)
            wanted = {key: obj for key, obj in objects.items() if key in self._named}
            self._held = {key: obj.metadata.resource_version for key, obj in wanted.items()}
            self._missing = set(self._named - wanted.keys())
            self._asked = None
            self._sink.replace(kind, wanted)
        self._wake.set()

    def update(self, kind: ObjectKind, obj: ApiObject) -> None:
        """Take a change, if it is one of a named Secret."""
        with self._lock:
            self._hear_of(obj.metadata.key)
            if obj.metadata.key in self._named:
                self._deliver(kind, obj)

    def delete(self, kind: ObjectKind, key: ObjectKey) -> None:
        """Take note that a Secret is gone."""
        del kind
        with self._lock:
            self._hear_of(key)
            self._drop(key)

    def report(self, problems: Sequence[Problem]) -> None:
        """Pass problems on that concern anybody."""
        with self._lock:
            relevant = [problem for problem in problems if problem.key in self._named]
            if relevant:
                self._sink.report(relevant)

    def _hear_of(self, key: ObjectKey) -> None:
        self._watched = True
        if key == self._asked:
            self._asked = None

    def _deliver(self, kind: ObjectKind, obj: ApiObject) -> None:
        """Pass an object on, unless a newer state of it has been passed on already."""
        key, version = obj.metadata.key, obj.metadata.resource_version
        self._missing.discard(key)
        held = self._held.get(key)
        if held is None or not (held == version or is_older(version, held)):
            self._held[key] = version
            self._sink.update(kind, obj)

    def _drop(self, key: ObjectKey) -> None:
        if self._held.pop(key, None) is not None:
            self._sink.delete(IngressKind.SECRET, key)

    # --- what is fetched ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause: float | None = None
        while not self._stopping.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            pause = RETRY_SECONDS
            with contained("secrets"):
                pause = self._round()

    def _round(self) -> float | None:
        """Fetch what has to be; return the seconds until the next time, None for when something new is named."""
        with self._lock:
            if not self._listed:
                return None
            wanted = sorted(self._missing if self._watched else self._named)
        failed = False
        for key in wanted:
            if self._stopping.is_set():
                return None
            failed |= not self._fetch(key)
        if failed:
            return RETRY_SECONDS
        with self._lock:
            return None if self._watched or not self._named else self._fetch_seconds

    def _fetch(self, key: ObjectKey) -> bool:
        """Fetch one Secret; tell whether that is settled, whatever came of it."""
        with self._lock:
            self._asked = key
        try:
            path = f"/api/v1/namespaces/{key.namespace}/secrets/{key.name}"
            decoded = decode_object(IngressKind.SECRET, self._client.get(path).read())
        except RefusedError as error:
            return self._refused(key, error)
        except (ApiError, DecodeError) as error:
            _log.warning("a Secret cannot be fetched, trying again", name=key, error=error)
            return False
        with self._lock:
            if self._is_overtaken(key):
                return True
            self._missing.discard(key)
            self._denied.discard(key)
            if decoded.problems:
                self._sink.report(decoded.problems)
            if isinstance(decoded.object, Secret) and key in self._named:
                self._deliver(IngressKind.SECRET, _without_strangers(decoded.object))
        return True

    def _is_overtaken(self, key: ObjectKey) -> bool:
        """Tell whether the watch has told of a Secret since it was asked for; if that it is gone, ask again."""
        if self._asked == key:
            return False
        if key in self._missing:
            self._wake.set()
        return True

    def _refused(self, key: ObjectKey, error: RefusedError) -> bool:
        if error.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            _log.warning("a Secret cannot be fetched, trying again", name=key, error=error)
            return False
        with self._lock:
            if self._is_overtaken(key):
                return True
            self._missing.discard(key)
            self._drop(key)
            if error.code == HTTPStatus.FORBIDDEN and key not in self._denied:
                self._denied.add(key)
                _log.warning("may not see a Secret that is named", name=key, error=error)
                reason = "it is named, but this program's ServiceAccount may not get it"
                self._sink.report([Problem(IngressKind.SECRET, key, "object", reason)])
        return True


def _without_strangers(secret: Secret) -> Secret:
    """Return a Secret without what is in it, where it is of another type: that is not for us to know."""
    return secret if secret.type == TLS_SECRET_TYPE else msgspec.structs.replace(secret, data=None, string_data=None)
