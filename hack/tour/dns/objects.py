"""What the server looks at: Services and EndpointSlices, cut down to what DNS wants of them, from a folder of files."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

SUFFIXES = (".yaml", ".yml", ".json")
LABEL_SERVICE_NAME = "kubernetes.io/service-name"
TOLERATE_UNREADY = "service.alpha.kubernetes.io/tolerate-unready-endpoints"  # what the field below was before
DEFAULT_NAMESPACE = "default"
HEADLESS = "None"


class _Struct(msgspec.Struct, frozen=True, rename="camel"):
    """camelCase in manifests."""


class Meta(_Struct, frozen=True):
    """Who an object is."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Port(_Struct, frozen=True):
    """A port of a Service or of a slice."""

    port: int | None = None
    name: str | None = None
    protocol: str | None = None


class ServiceSpec(_Struct, frozen=True):
    """``spec`` of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    external_name: str | None = None
    publish_not_ready_addresses: bool | None = None
    ports: tuple[Port, ...] | None = None


class Service(_Struct, frozen=True):
    """core/v1 Service."""

    metadata: Meta
    spec: ServiceSpec = ServiceSpec()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its ClusterIPs: none if it is headless, or an ExternalName, or has not got one yet."""
        if self.spec.type == "ExternalName":
            return ()
        listed = self.spec.cluster_ips or ((self.spec.cluster_ip,) if self.spec.cluster_ip else ())
        return tuple(address for address in listed if address != HEADLESS)

    @property
    def is_headless(self) -> bool:
        """Whether its name means its pods."""
        return self.spec.type != "ExternalName" and self.spec.cluster_ip == HEADLESS

    @property
    def publishes_not_ready(self) -> bool:
        """Whether its pods have names before they are ready."""
        annotations = self.metadata.annotations or {}
        return bool(self.spec.publish_not_ready_addresses) or annotations.get(TOLERATE_UNREADY) == "true"


class Conditions(_Struct, frozen=True):
    """An endpoint whose readiness is not told counts as ready."""

    ready: bool | None = None


class Endpoint(_Struct, frozen=True):
    """One pod of a slice."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions = Conditions()
    hostname: str | None = None


class EndpointSlice(_Struct, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    metadata: Meta
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[Port, ...] | None = None


class Objects(NamedTuple):
    """All there are, in the order of files and of objects within them."""

    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()


KINDS: dict[tuple[str, str], type[Service] | type[EndpointSlice]] = {
    ("v1", "Service"): Service,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
}


class Folder:
    """A folder of manifests, read again when something in it has changed.

    `objects` looks at the folder each time it is asked. That is cheap, and so the next answer knows of every change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._objects = Objects()

    def objects(self) -> Objects:
        """What is there now. A file that cannot be read leaves all as it was, and is named on standard error."""
        seen = self._stamps()
        if seen != self._seen:
            self._seen = seen
            try:
                self._objects = read(path.read_text() for path in self._files())
            except (OSError, ValueError, yaml.YAMLError) as error:
                _complain(f"{self._path}: {' '.join(str(error).split())}; what was read before stays")
        return self._objects

    def _files(self) -> list[Path]:
        return sorted(path for path in self._path.iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")

    def _stamps(self) -> tuple[tuple[str, int, int], ...]:
        """By what one sees that something has changed. Empty if there is no folder."""
        with suppress(FileNotFoundError):  # a file, or all of it, went between two looks
            status = [(path.name, path.stat()) for path in self._files()]
            return tuple((name, one.st_mtime_ns, one.st_size) for name, one in status)
        return ()


def read(texts: Iterable[str]) -> Objects:
    """The objects of some files' text. What makes no sense is named on standard error and left out."""
    services: list[Service] = []
    slices: list[EndpointSlice] = []
    for text in texts:
        for document in yaml.safe_load_all(text):
            for raw in _unpacked(document):
                obj = _convert(raw)
                if isinstance(obj, Service):
                    services.append(obj)
                elif isinstance(obj, EndpointSlice):
                    slices.append(obj)
    return Objects(tuple(services), tuple(slices))


def _unpacked(document: Any) -> Iterator[dict[str, Any]]:
    """A document's objects: itself, or the items of a List."""
    if not isinstance(document, dict):
        return
    if document.get("kind") == "List":
        for item in document.get("items") or ():
            yield from _unpacked(item)
    else:
        yield document


def _convert(raw: dict[str, Any]) -> Service | EndpointSlice | None:
    struct = KINDS.get((str(raw.get("apiVersion")), str(raw.get("kind"))))
    if struct is None:
        return None
    try:
        return msgspec.convert(raw, struct)
    except msgspec.ValidationError as error:
        meta = raw.get("metadata")
        name = meta.get("name") if isinstance(meta, dict) else None
        _complain(f"{raw.get('kind')} {name!r}: {error}; it is left out")
        return None


def _complain(text: str) -> None:
    print(f"dns: {text}", file=sys.stderr, flush=True)
