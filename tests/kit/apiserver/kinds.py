"""Which resources the test API server knows, and how their paths are read.

One table drives everything that depends on the kind: paths, discovery, selectors, what an object without content looks
like (a real server's bookmarks carry one). Source: k8s.io/api types and their ``omitempty`` tags.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

_EMPTY_NODE_INFO = dict.fromkeys(
    (
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ),
    "",
)


class Kind(NamedTuple):
    """One resource: ``plural`` is its name in paths, ``name`` the one in objects."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()  # what a fieldSelector may name, besides metadata.name and metadata.namespace
    empty: Json = {}  # noqa: RUF012 - a NamedTuple's default; never changed
    delete_returns_object: bool = False

    @property
    def api_version(self) -> str:
        """The value of ``apiVersion`` in objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def selectable(self) -> tuple[str, ...]:
        """All fields that a fieldSelector may name."""
        return ("metadata.name", "metadata.namespace", *self.fields)

    def key(self, namespace: str, name: str) -> str:
        """Where an object is stored; keys sort as etcd's do, so lists come in a real server's order."""
        return f"/{namespace}/{name}" if self.namespaced else f"/{name}"


_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "reason",
    "type",
)

_GATEWAY = "gateway.networking.k8s.io"

KINDS = (
    Kind(
        "",
        "v1",
        "services",
        "Service",
        True,
        ("svc",),
        ("spec.clusterIP", "spec.type"),
        {"spec": {}, "status": {"loadBalancer": {}}},
        delete_returns_object=True,
    ),
    Kind(
        "",
        "v1",
        "nodes",
        "Node",
        False,
        ("no",),
        ("spec.unschedulable",),
        {"spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": _EMPTY_NODE_INFO}},
    ),
    Kind("", "v1", "events", "Event", True, ("ev",), _EVENT_FIELDS),
    Kind(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        True,
        empty={"addressType": "", "endpoints": None, "ports": None},
    ),
    Kind("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", False, empty={"spec": {}, "status": {}}),
    Kind("events.k8s.io", "v1", "events", "Event", True, ("ev",)),
    Kind("", "v1", "secrets", "Secret", True, fields=("type",)),
    Kind("", "v1", "namespaces", "Namespace", False, ("ns",), empty={"spec": {}, "status": {}}),
    Kind("coordination.k8s.io", "v1", "leases", "Lease", True, empty={"spec": {}}),
    Kind("networking.k8s.io", "v1", "ingresses", "Ingress", True, ("ing",), empty={"spec": {}, "status": {}}),
    Kind("networking.k8s.io", "v1", "ingressclasses", "IngressClass", False, empty={"spec": {}}),
    Kind(_GATEWAY, "v1", "gatewayclasses", "GatewayClass", False, ("gc",)),
    Kind(_GATEWAY, "v1", "gateways", "Gateway", True, ("gtw",)),
    Kind(_GATEWAY, "v1", "httproutes", "HTTPRoute", True),
    Kind(_GATEWAY, "v1beta1", "referencegrants", "ReferenceGrant", True, ("refgrant",)),
)

GROUP_VERSIONS = tuple(dict.fromkeys((kind.group, kind.version) for kind in KINDS))

_BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
_BY_OBJECT = {(kind.api_version, kind.name): kind for kind in KINDS}
_BY_NAME = {name: kind for kind in reversed(KINDS) for name in (kind.plural, kind.name, *kind.short_names)}


def kind_of(obj: Json) -> Kind:
    """Return the kind an object says it is of.

    Raises:
        ValueError: no such kind is served.
    """
    kind = _BY_OBJECT.get((str(obj.get("apiVersion")), str(obj.get("kind"))))
    if kind is None:
        raise ValueError(f"no resource for apiVersion {obj.get('apiVersion')!r}, kind {obj.get('kind')!r}")
    return kind


def kind_named(name: str | Kind) -> Kind:
    """Return a kind by its plural ("services"), its kind ("Service") or its short name ("svc").

    Raises:
        ValueError: no such kind is served.
    """
    if isinstance(name, Kind):
        return name
    if name not in _BY_NAME:
        raise ValueError(f"no resource named {name!r}; there are {', '.join(sorted(_BY_NAME))}")
    return _BY_NAME[name]


def kinds_of_group(group: str, version: str) -> Iterator[Kind]:
    """All kinds of one group version, in the table's order."""
    return (kind for kind in KINDS if (kind.group, kind.version) == (group, version))


class Target(NamedTuple):
    """What a path points at: a whole resource, one namespace of it, or one object of it."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_path(path: str) -> Target | None:
    """Read ``/api/v1/…`` and ``/apis/GROUP/VERSION/…``; None for whatever is no resource served here."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3:
        namespace, rest = rest[1], rest[2:]
    kind = _BY_PATH.get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        return None
    if kind.namespaced and len(rest) > 1 and not namespace:
        return None
    return Target(kind, namespace, *rest[1:])
