"""From the API server's bytes to typed objects.

A page of a list or a watch event is parsed once, straight into the structs of `kproxy.api.types`; what they don't
declare never becomes a Python object. Only what msgspec refuses is parsed a second time and converted by the tolerant
walk, object by object: one bad object never touches the others.

What counts as bad here is form (types, missing names). Whether a port number or an address makes sense is for
`kproxy.state` to judge.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec.json import Decoder

from kproxy.api import tolerant
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, ObjectKey, Problem
from kproxy.api.wire import Added, Bookmark, BookmarkObject, Deleted, Error, Event, List, ListMeta, Modified, Status
from kproxy.faults.undecodable import UNDECODABLE
from kproxy.wording import printable, shown

Problems: TypeAlias = tuple[Problem, ...]

_EVENTS: dict[str, type[Any]] = {"ADDED": Added, "MODIFIED": Modified, "DELETED": Deleted}
_RAW_PAGE = Decoder(List[msgspec.Raw])
_DIGITS = 400  # more than any number has; Python refuses to parse integers far longer


class DecodeError(ValueError):
    """The bytes are not what was expected at all: no JSON, or no list, or no watch event."""


class Decoded(NamedTuple):
    """One object, as far as it could be used; None where it could not at all."""

    object: ApiObject | None
    problems: Problems = ()


class DecodedEvent(NamedTuple):
    """One watch event; None where its object could not be used."""

    event: Event | None
    problems: Problems = ()


class Page(NamedTuple):
    """One page of a list. ``continue_token`` is empty on the last one."""

    objects: tuple[ApiObject, ...]
    problems: Problems
    resource_version: str
    continue_token: str


def _page_of(struct: Any) -> Decoder[List[Any]]:
    return Decoder(List[struct])


def _events_of(struct: Any) -> Decoder[Event]:
    return Decoder(Added[struct] | Modified[struct] | Deleted[struct] | Bookmark | Error)


_OBJECTS: dict[type[Any], Decoder[Any]] = {}
_PAGES: dict[type[Any], Decoder[List[Any]]] = {}
_WATCH_EVENTS: dict[type[Any], Decoder[Event]] = {}


def prepare(kinds: Iterable[ObjectKind]) -> None:
    """Make the decoders of some kinds. To be called while a module is imported, before there are threads.

    Not at first use, which is in threads: while msgspec makes a decoder, another one that is made meanwhile picks up
    half-made descriptions of the structs they share, and crashes the process when it decodes by them.
    """
    for kind in kinds:
        _OBJECTS[kind.struct] = Decoder(kind.struct)
        _PAGES[kind.struct] = _page_of(kind.struct)
        _WATCH_EVENTS[kind.struct] = _events_of(kind.struct)


prepare(Kind)


def decode_object(kind: ObjectKind, data: bytes | msgspec.Raw) -> Decoded:
    """Decode one object. Raises `DecodeError` where ``data`` isn't JSON."""
    try:
        obj: ApiObject = _OBJECTS[kind.struct].decode(data)
    except UNDECODABLE:
        return _convert(kind, _parse(bytes(data)))
    return _named(kind, obj)


def convert_object(kind: ObjectKind, raw: object) -> Decoded:
    """Make an object of what a parser left: mappings, lists and scalars, with strings of sound Unicode."""
    try:
        obj: ApiObject = msgspec.convert(raw, kind.struct)
    except UNDECODABLE:
        return _convert(kind, raw)
    return _named(kind, obj)


def decode_page(kind: ObjectKind, data: bytes) -> Page:
    """Decode one page of a list. Raises `DecodeError` where ``data`` is no such thing."""
    try:
        page = _PAGES[kind.struct].decode(data)
    except UNDECODABLE:
        return _decode_page_by_object(kind, data)
    objects = page.items or ()
    problems: list[Problem] = []
    if not all(obj.metadata.name for obj in objects):
        usable = [_named(kind, obj) for obj in objects]
        objects = tuple(decoded.object for decoded in usable if decoded.object is not None)
        problems = [problem for decoded in usable for problem in decoded.problems]
    return Page(objects, tuple(problems), page.metadata.resource_version, page.metadata.continue_ or "")


def _decode_page_by_object(kind: ObjectKind, data: bytes) -> Page:
    metadata, items = _split_page(kind, data)
    objects: list[ApiObject] = []
    problems: list[Problem] = []
    for item in items:
        decoded = decode_object(kind, item) if isinstance(item, msgspec.Raw) else _convert(kind, item)
        problems += decoded.problems
        if decoded.object is not None:
            objects.append(decoded.object)
    return Page(tuple(objects), tuple(problems), metadata.resource_version, metadata.continue_ or "")


def _split_page(kind: ObjectKind, data: bytes) -> tuple[ListMeta, Sequence[object]]:
    """Return a list's items, each still as bytes where it is JSON to msgspec's taste."""
    try:
        page = _RAW_PAGE.decode(data)
    except UNDECODABLE:
        pass
    else:
        return page.metadata, page.items or ()
    raw = _parse(data)
    if not isinstance(raw, dict) or not isinstance(raw.get("items"), list):
        raise DecodeError(f"not a list of {kind.resource}, but {shown(raw)}")
    try:
        return tolerant.convert(raw.get("metadata"), ListMeta, []), raw["items"]
    except tolerant.Unusable as unusable:
        raise DecodeError(f"list of {kind.resource}: metadata: {unusable.flaw.reason}") from unusable


def decode_event(kind: ObjectKind, line: bytes) -> DecodedEvent:
    """Decode one line of a watch. Raises `DecodeError` where it isn't a watch event."""
    try:
        event = _WATCH_EVENTS[kind.struct].decode(line)
    except UNDECODABLE:
        return _convert_event(kind, line)
    if isinstance(event, Bookmark | Error) or event.object.metadata.name:
        return DecodedEvent(event)
    return DecodedEvent(None, _named(kind, event.object).problems)


def _convert_event(kind: ObjectKind, line: bytes) -> DecodedEvent:
    raw = _parse(line)
    if not isinstance(raw, dict):
        raise DecodeError(f"not a watch event: {shown(raw)}")
    event_type = raw.get("type")
    flaws: list[tolerant.Flaw] = []
    if event_type in ("ERROR", "BOOKMARK"):
        wrapper, struct = (Error, Status) if event_type == "ERROR" else (Bookmark, BookmarkObject)
        try:
            return DecodedEvent(wrapper(tolerant.convert(raw.get("object"), struct, flaws)))
        except tolerant.Unusable as unusable:
            raise DecodeError(f"{event_type} event: {unusable.flaw.reason}") from unusable
    if not isinstance(event_type, str) or event_type not in _EVENTS:
        raise DecodeError(f"watch event of unknown type {shown(event_type)}")
    decoded = _convert(kind, raw.get("object"))
    if decoded.object is None:
        return DecodedEvent(None, decoded.problems)
    return DecodedEvent(_EVENTS[event_type](decoded.object), decoded.problems)


def decode_status(data: bytes) -> Status | None:
    """Decode the body of an answer that isn't a success; None where it is no Status (a proxy's error page, say)."""
    try:
        status = tolerant.convert(_parse(data), Status, [])
    except (DecodeError, tolerant.Unusable):
        return None
    assert isinstance(status, Status)  # noqa: S101 - for the type checker
    return status


def _convert(kind: ObjectKind, raw: object) -> Decoded:
    key = _key(kind, raw)
    flaws: list[tolerant.Flaw] = []
    try:
        obj: ApiObject | None = tolerant.convert(raw, kind.struct, flaws)
    except tolerant.Unusable as unusable:
        obj, flaws = None, [unusable.flaw]
    if obj is not None and not obj.metadata.name and not any(flaw.path == "metadata.name" for flaw in flaws):
        flaws.append(tolerant.Flaw("metadata.name", "missing; an object without a name is left out"))
    problems = tuple(Problem(kind, key, flaw.path or "object", flaw.reason) for flaw in flaws)
    return Decoded(obj if obj is not None and obj.metadata.name else None, problems)


def _named(kind: ObjectKind, obj: ApiObject) -> Decoded:
    if obj.metadata.name:
        return Decoded(obj)
    problem = Problem(kind, obj.metadata.key, "metadata.name", "missing; an object without a name is left out")
    return Decoded(None, (problem,))


def _key(kind: ObjectKind, raw: object) -> ObjectKey:
    """Name the object in ``raw`` as well as it names itself."""
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    if not isinstance(metadata, Mapping):
        return ObjectKey("", "")
    namespace, name = metadata.get("namespace"), metadata.get("name")
    return ObjectKey(
        printable(namespace) if isinstance(namespace, str) and kind.namespaced else "",
        printable(name) if isinstance(name, str) else "",
    )


def _parse(data: bytes) -> object:
    """Parse JSON, or what nearly is: numbers out of range and broken Unicode are let pass, to be judged in place."""
    try:
        return json.loads(data.decode(errors="replace"), parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {_reason(error)}") from error


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else float("inf")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else printable(str(error))
