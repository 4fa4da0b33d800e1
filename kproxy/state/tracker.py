"""Holds what the API said, as service ports and endpoints, and knows which of them changed.

One tracker serves one address family. It is a plain value store with one owner: objects are put in as they come, in any
order (a slice may arrive before its Service and outlive it), and the names of all service ports whose programming may
have changed pile up in `pending` until the owner says that they are in the kernel. A failed sync therefore loses
nothing: what it was to do is still pending.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from kproxy.api.types import EndpointSlice, ObjectKey, Problem, Service
from kproxy.state.model import Endpoint, IPFamily, ServicePort, ServicePortName, endpoint_text
from kproxy.state.services import service_ports, why_not_proxied
from kproxy.state.slices import SlicePorts, owner_name, slice_endpoints, slice_family, why_ignored

K = TypeVar("K")


class Change(msgspec.Struct, frozen=True):
    """What one object did to the state: whether anything became different, and what of the object was skipped."""

    changed: bool
    problems: tuple[Problem, ...] = ()


class Tracker:
    """Service ports and endpoints of one address family, and which of them are pending."""

    def __init__(self, family: IPFamily, node_name: str) -> None:
        self.family = family
        self.pending: set[ServicePortName] = set()
        self._node_name = node_name
        self._ports: dict[ServicePortName, ServicePort] = {}
        self._services: dict[ObjectKey, tuple[ServicePortName, ...]] = {}
        self._slices: dict[ObjectKey, dict[str, SlicePorts]] = {}
        self._slice_owner: dict[ObjectKey, ObjectKey] = {}
        self._unproxied: dict[ObjectKey, str] = {}

    # --- Services --------------------------------------------------------------------------------------------------

    def update_service(self, service: Service) -> Change:
        """Take in a Service that is new or was modified."""
        ports, problems = service_ports(service, self.family)
        key = service.metadata.key
        why = None if ports else why_not_proxied(service)
        if why is None:
            self._unproxied.pop(key, None)
        else:
            self._unproxied[key] = why
        return Change(self._set_ports(key, ports), problems)

    def delete_service(self, key: ObjectKey) -> Change:
        """Forget a Service."""
        self._unproxied.pop(key, None)
        return Change(self._set_ports(key, ()))

    def _set_ports(self, key: ObjectKey, ports: Sequence[ServicePort]) -> bool:
        if not ports and key not in self._services:
            return False  # as most Services are in one of the families
        if tuple(port.name for port in ports) == self._services.get(key) and all(
            self._ports[port.name] == port for port in ports
        ):
            return False  # what is held stays where it is in memory: a list that brings nothing new leaves none behind
        before = {name: self._ports.pop(name) for name in self._services.pop(key, ())}
        after = {port.name: port for port in ports}
        if after:
            self._ports.update(after)
            self._services[key] = tuple(after)
        changed = _differing(before, after)
        self.pending.update(changed)
        return bool(changed)

    # --- EndpointSlices --------------------------------------------------------------------------------------------

    def update_slice(self, endpoint_slice: EndpointSlice) -> Change:
        """Take in an EndpointSlice that is new or was modified; slices of the other family do nothing."""
        key = endpoint_slice.metadata.key
        service = owner_name(endpoint_slice)
        family = slice_family(endpoint_slice)
        if family is not self.family or service is None:
            is_other = family is not None and service is not None  # the other family's, and in order
            return Change(self.delete_slice(key).changed, () if is_other else why_ignored(endpoint_slice))
        owner = ObjectKey(key.namespace, service)
        moved = self._slice_owner.get(key, owner) != owner and self.delete_slice(key).changed
        ports, problems = slice_endpoints(endpoint_slice, self.family, self._node_name)
        self._slice_owner.setdefault(key, owner)
        return Change(self._set_slice(owner, key.name, ports) or moved, problems)

    def delete_slice(self, key: ObjectKey) -> Change:
        """Forget an EndpointSlice."""
        owner = self._slice_owner.pop(key, None)
        return Change(self._set_slice(owner, key.name, None) if owner else False)

    def _set_slice(self, owner: ObjectKey, slice_name: str, ports: SlicePorts | None) -> bool:
        slices = self._slices.setdefault(owner, {})
        if ports is not None and slices.get(slice_name) == ports:
            return False  # as with Services
        before: SlicePorts = slices.pop(slice_name, {})
        after: SlicePorts = ports or {}
        if ports is not None:
            slices[slice_name] = ports
        if not slices:
            del self._slices[owner]
        changed = _differing(before, after)
        for port, protocol in changed:
            held = self._ports.get(ServicePortName(owner.namespace, owner.name, port, protocol))
            if held is not None:  # else nothing need be done; should it come, the Service itself makes it pending
                self.pending.add(held.name)  # not one more name with every slice that changes
        return bool(changed)

    # --- complete sets ---------------------------------------------------------------------------------------------

    def services_missing_from(self, keys: Iterable[ObjectKey]) -> list[ObjectKey]:
        """Return the Services held that are not among ``keys``: after a fresh list, the ones deleted meanwhile."""
        return list((self._services.keys() | self._unproxied.keys()) - set(keys))

    def slices_missing_from(self, keys: Iterable[ObjectKey]) -> list[ObjectKey]:
        """Return the EndpointSlices held that are not among ``keys``."""
        return list(self._slice_owner.keys() - set(keys))

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def ports(self) -> Mapping[ServicePortName, ServicePort]:
        """All service ports there are now."""
        return self._ports

    def ports_of(self, service: ObjectKey) -> tuple[ServicePort, ...]:
        """Return the ports of a Service, in the order of its spec."""
        return tuple(self._ports[name] for name in self._services.get(service, ()))

    def endpoints(self, name: ServicePortName) -> tuple[Endpoint, ...]:
        """Return the endpoints behind a service port, each address once, in kube-proxy's order (by their text)."""
        merged: dict[str, Endpoint] = {}
        slices = self._slices.get(name.service, {})
        port = name.port, name.protocol
        for slice_name in sorted(slices):
            for endpoint in slices[slice_name].get(port, ()):
                text = endpoint_text(endpoint.ip, endpoint.port)
                other = merged.get(text)
                if other is None or _usefulness(endpoint) > _usefulness(other):
                    merged[text] = endpoint
        return tuple(merged[text] for text in sorted(merged))

    @property
    def unproxied(self) -> Mapping[ObjectKey, str]:
        """The Services that are none of a proxy's business, and why."""
        return self._unproxied

    def slices_of(self, service: ObjectKey) -> Mapping[str, SlicePorts]:
        """Return the slices of a Service by name, whatever the names of their ports."""
        return self._slices.get(service, {})

    def everything_pending(self) -> None:
        """Make every service port pending: after a change of what holds for all, such as the node's labels."""
        self.pending.update(self._ports)

    def applied(self, names: Iterable[ServicePortName]) -> None:
        """Note that ``names`` are in the kernel as they are held here."""
        self.pending.difference_update(names)


def _differing(before: Mapping[K, object], after: Mapping[K, object]) -> Collection[K]:
    """Return the keys under which two mappings hold something else, or only one of them anything."""
    if not before:
        return after.keys()
    return [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]


def _usefulness(endpoint: Endpoint) -> tuple[bool, bool, bool, bool]:
    """Rank two accounts of one address, as there are while it moves from slice to slice.

    Local wins as in kube-proxy, then the one that may get traffic: the older slice may call a pod terminating that the
    newer one already calls ready. (kube-proxy takes either, by chance.)
    """
    return endpoint.is_local, endpoint.ready, endpoint.serving, not endpoint.terminating
