"""Objects from YAML and JSON: the second way in, for nodes without an API server and for ``kproxy render``.

What the API server would do on the way is made up for here: the default namespace, one object per name, and leaving
out what the selectors would not have let through. Objects of kinds that mean nothing to a proxy are passed over, so
that an application's manifests can be used as they are.

A file is taken whole or not at all: one that does not parse raises `ManifestError`, which says where. A part of an
object that has the wrong form becomes a `Problem`, as with objects from the API server.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kproxy import logs
from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.selection import wanted
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Problem
from kproxy.api.yamlreader import NESTED_TOO_DEEPLY, UnreadableError, read_documents
from kproxy.faults.undecodable import UNDECODABLE
from kproxy.wording import printable, shown

DEFAULT_NAMESPACE = "default"

_log = logs.get("manifests")


class ManifestError(ValueError):
    """A manifest that cannot be read. Its text is one line: ``FILE:LINE: what is wrong``."""

    def __init__(self, origin: str, line: int | None, reason: str) -> None:
        self.origin = origin
        self.line = line
        place = origin if line is None else f"{origin}:{line}"
        super().__init__(f"{printable(place)}: {printable(reason)}")


class Manifest(NamedTuple):
    """What one file holds."""

    objects: tuple[ApiObject, ...] = ()
    problems: tuple[Problem, ...] = ()


class Combined(NamedTuple):
    """What several files hold together: every kind is there, be it empty."""

    objects: dict[ObjectKind, dict[ObjectKey, ApiObject]]
    problems: tuple[Problem, ...]


class _Document(NamedTuple):
    raw: object
    line: int | None


def read_file(path: Path, origin: str | None = None, kinds: Iterable[ObjectKind] = Kind) -> Manifest:
    """Read one file; ``origin`` is what messages call it, its path by default."""
    origin = str(path) if origin is None else origin
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(origin, None, f"cannot be read: {error.strerror}") from error
    return read_manifest(data, origin, kinds)


def read_manifest(data: bytes, origin: str, kinds: Iterable[ObjectKind] = Kind) -> Manifest:
    """Read YAML (of several documents, if need be) or JSON. Raises `ManifestError`."""
    known = {str(kind): kind for kind in kinds}
    objects: list[ApiObject] = []
    problems: list[Problem] = []
    for document in _documents(data, origin):
        place = origin if document.line is None else f"{origin}:{document.line}"
        for raw in _unpack(document, origin):
            obj, its_problems = _object(raw, known)
            problems += [p._replace(reason=f"{p.reason} ({printable(place)})") for p in its_problems]
            if obj is not None:
                objects.append(obj)
    return Manifest(tuple(objects), tuple(problems))


def combine(manifests: Mapping[str, Manifest], node_name: str | None, kinds: Iterable[ObjectKind] = Kind) -> Combined:
    """Merge what the files named by the keys hold, leaving out what is no business of a proxy on ``node_name``.

    Where two files define the same object, the one whose name sorts first wins. With None for ``node_name``, all
    Nodes are kept.
    """
    objects: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {kind: {} for kind in kinds}
    kind_of = {kind.struct: kind for kind in objects}
    origins: dict[tuple[ObjectKind, ObjectKey], str] = {}
    problems: list[Problem] = []
    for origin in sorted(manifests):
        problems += manifests[origin].problems
        for obj in manifests[origin].objects:
            kind, key = kind_of[type(obj)], obj.metadata.key
            if not wanted(kind, obj, node_name):
                continue
            first = origins.setdefault((kind, key), origin)
            if key not in objects[kind]:
                objects[kind][key] = obj
            elif first == origin:
                problems.append(Problem(kind, key, "metadata.name", f"twice in {first}; the first one is used"))
            else:
                problems.append(Problem(kind, key, "metadata.name", f"in {first} and {origin}; {first}'s is used"))
    return Combined(objects, tuple(_without_doubles(problems, objects.get(Kind.ENDPOINT_SLICE, {}).values())))


def _without_doubles(problems: Sequence[Problem], slices: Iterable[ApiObject]) -> Iterator[Problem]:
    """Leave out problems with Endpoints whose slices are there as well, as in what kubectl prints of a cluster."""
    owners: set[tuple[str, str | None]] = set()
    if any(problem.kind == _ENDPOINTS for problem in problems):
        owners = {
            (obj.metadata.namespace, obj.metadata.labels.service_name)
            for obj in slices
            if isinstance(obj, EndpointSlice) and obj.metadata.labels is not None
        }
    return (problem for problem in problems if problem.kind != _ENDPOINTS or tuple(problem.key) not in owners)


def _documents(data: bytes, origin: str) -> Iterator[_Document]:
    if origin.endswith(".json") or data.lstrip().startswith((b"{", b"[")):
        try:
            yield _Document(msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf")), None)
        except UNDECODABLE as error:
            if origin.endswith(".json"):
                raise _json_error(data, origin, error) from error
        else:
            return
    try:
        for line, raw in read_documents(data):
            yield _Document(raw, line)
    except UnreadableError as error:
        raise ManifestError(origin, error.line, error.reason) from error


def _json_error(data: bytes, origin: str, error: Exception) -> ManifestError:
    """Say where JSON is broken: msgspec counts bytes, people count lines."""
    if isinstance(error, RecursionError):
        return ManifestError(origin, None, NESTED_TOO_DEEPLY)
    try:
        json.loads(data)
    except json.JSONDecodeError as located:
        return ManifestError(origin, located.lineno, f"not valid JSON, in column {located.colno} ({located.msg})")
    except RecursionError:
        return ManifestError(origin, None, NESTED_TOO_DEEPLY)
    except ValueError as other:
        return ManifestError(origin, None, f"not valid JSON ({other})")
    return ManifestError(origin, None, f"not valid JSON ({error})")


def _unpack(document: _Document, origin: str) -> Iterator[Mapping[str, Any]]:
    """Return the objects of a document: itself, or the items of a List (of any kind: ServiceList and so on)."""
    raw, line = document
    if raw is None:
        return
    kind = _kind_name(raw, document, origin)
    assert isinstance(raw, Mapping)  # noqa: S101 - _kind_name saw to it
    items = raw.get("items")
    if not kind.endswith("List") or not isinstance(items, list):
        yield raw
        return
    inherited = {"kind": kind.removesuffix("List"), "apiVersion": raw.get("apiVersion")} if kind != "List" else {}
    for index, item in enumerate(items):
        whole = inherited | item if isinstance(item, dict) else item
        if _kind_name(whole, document, origin, f"items[{index}]: ").endswith("List"):
            raise ManifestError(origin, line, f"items[{index}]: a List inside a List is not supported")
        yield whole


def _kind_name(raw: object, document: _Document, origin: str, where: str = "") -> str:
    if not isinstance(raw, Mapping):
        raise ManifestError(origin, document.line, f"{where}expected a Kubernetes object, not {shown(raw)}")
    kind = raw.get("kind")
    if not isinstance(kind, str) or not kind:
        raise ManifestError(origin, document.line, f"{where}an object needs a kind, as in 'kind: Service'")
    return kind


def _object(raw: Mapping[str, Any], known: Mapping[str, ObjectKind]) -> tuple[ApiObject | None, tuple[Problem, ...]]:
    """Make an object of a kind that matters; None for all others."""
    api_version = raw.get("apiVersion")
    kind = known.get(raw["kind"])
    if raw["kind"] == _ENDPOINTS and api_version in (None, "v1"):
        return None, (Problem(_ENDPOINTS, _key_of(raw), "kind", _NO_ENDPOINTS),)
    if kind is None or not _same_group(api_version, kind):
        _log.debug("passing over an object of no concern", kind=raw["kind"], api_version=api_version)
        return None, ()
    obj, problems = convert_object(kind, raw)
    if api_version not in (None, kind.api_version, *kind.other_versions):
        key = obj.metadata.key if obj else ObjectKey("", "")
        reason = f"{shown(api_version)} is not supported, use {kind.api_version}; the object is left out"
        return None, (Problem(kind, key, "apiVersion", reason),)
    if kind.namespaced and not (obj and obj.metadata.namespace):
        problems = tuple(p._replace(key=_in_default_namespace(p.key)) for p in problems)
        if obj is not None:
            metadata = msgspec.structs.replace(obj.metadata, namespace=DEFAULT_NAMESPACE)
            obj = msgspec.structs.replace(obj, metadata=metadata)
    return obj, problems


_ENDPOINTS = "Endpoints"
_NO_ENDPOINTS = (
    "kproxy reads EndpointSlices (discovery.k8s.io/v1), which an API server makes of Endpoints and a folder has to "
    "hold; the object is left out"
)


def _key_of(raw: Mapping[str, Any]) -> ObjectKey:
    metadata = raw.get("metadata")
    name, namespace = (
        (metadata.get("name"), metadata.get("namespace")) if isinstance(metadata, Mapping) else (None, None)
    )
    return ObjectKey(printable(str(namespace or DEFAULT_NAMESPACE)), printable(str(name or "")))


def _in_default_namespace(key: ObjectKey) -> ObjectKey:
    return key if key.namespace else key._replace(namespace=DEFAULT_NAMESPACE)


def _same_group(api_version: object, kind: ObjectKind) -> bool:
    """Tell whether an apiVersion is of the kind's group: other groups have a "Service" of their own."""
    if api_version is None:
        return True
    return isinstance(api_version, str) and api_version.rpartition("/")[0] == kind.group
