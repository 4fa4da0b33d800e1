"""The kinds of objects kproxy watches: a table that decoding, watching and reading manifests all go by.

`Kind` is the service proxy's table. A program that looks at other objects brings one of its own, an `ObjectKind` too.
"""

import enum
from typing import Any, Self

from kproxy.api.types import ApiObject, EndpointSlice, Node, Service, ServiceCIDR


class ObjectKind(enum.StrEnum):
    """One kind of object. The value is what the object's own ``kind`` field says."""

    api_version: str
    resource: str
    """The plural name in paths and in RBAC rules."""
    namespaced: bool
    struct: type[Any]
    """What objects of this kind are decoded into."""
    other_versions: tuple[str, ...]
    """Older versions of the same group that say the same in the fields used, as manifests may have them."""
    selector: str
    """A fieldSelector that lists and watches use; empty for none."""

    def __new__(
        cls,
        value: str,
        api_version: str,
        resource: str,
        namespaced: bool,
        struct: type[Any],
        other_versions: tuple[str, ...] = (),
        selector: str = "",
    ) -> Self:
        """Build a member from its row in the table."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.api_version = api_version
        member.resource = resource
        member.namespaced = namespaced
        member.struct = struct
        member.other_versions = other_versions
        member.selector = selector
        return member

    @property
    def path(self) -> str:
        """Where the API server keeps all objects of this kind."""
        root = "apis" if "/" in self.api_version else "api"
        return f"/{root}/{self.api_version}/{self.resource}"

    def path_in(self, namespace: str) -> str:
        """Where it keeps those of one namespace; all of them, where they lie in none."""
        if not (self.namespaced and namespace):
            return self.path
        return f"{self.path.removesuffix(self.resource)}namespaces/{namespace}/{self.resource}"

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]


class Kind(ObjectKind):
    """What concerns a service proxy."""

    SERVICE = "Service", "v1", "services", True, Service
    ENDPOINT_SLICE = "EndpointSlice", "discovery.k8s.io/v1", "endpointslices", True, EndpointSlice
    NODE = "Node", "v1", "nodes", False, Node
    SERVICE_CIDR = "ServiceCIDR", "networking.k8s.io/v1", "servicecidrs", False, ServiceCIDR

    @classmethod
    def of(cls, obj: ApiObject) -> "Kind":
        """Return the kind of an object."""
        return _KINDS[type(obj)]


_KINDS: dict[type[Any], Kind] = {kind.struct: kind for kind in Kind}
