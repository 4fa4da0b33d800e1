"""Where Gateways are bound: the addresses they name, the ports they are given, and which of them are taken already."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.gateway import Gateway
from kproxy.ingress.plan.gateway import ports
from kproxy.ingress.plan.gateway.listeners import Judged
from kproxy.ingress.plan.model import Bind, Protocol
from kproxy.ingress.plan.settings import GatewayPort, GatewayPorts, PlanSettings
from kproxy.ingress.plan.world import World
from kproxy.state.addresses import NotAnAddress, parse_ip
from kproxy.wording import quote


class Addresses(NamedTuple):
    """What a Gateway's ``spec.addresses`` come to."""

    usable: tuple[str, ...] = ()
    unsupported: str = ""
    """What is wrong with those of a type that cannot be."""
    unusable: str = ""
    """What is wrong with those that are no addresses to be had."""

    @property
    def nowhere(self) -> bool:
        """Whether addresses were asked for, and not one can be had."""
        return bool(self.unusable) and not self.usable


def given_ports(gateways: Iterable[Gateway], world: World, settings: PlanSettings) -> GatewayPorts:
    """Return the engine's port for each port of some Gateways; none where they are bound at their own."""
    if not settings.in_cluster:
        return {}
    wanted = {
        GatewayPort(*gateway.metadata.key, listener.port)
        for gateway in gateways
        for listener in gateway.spec.listeners or ()
    }
    return ports.assign(wanted, ports.given_out(world.services))


def addresses_of(gateway: Gateway, world: World) -> Addresses:
    """Sort out the addresses that a Gateway asks for. One without a value may be any, as if it were not there."""
    usable: list[str] = []
    unsupported: list[str] = []
    unusable: list[str] = []
    for address in gateway.spec.addresses or ():
        if address.type not in (None, "IPAddress"):
            unsupported.append(f"type {quote(address.type)} is not supported, use IPAddress")
        elif address.value:
            try:
                ip = parse_ip(address.value)[1]
            except NotAnAddress as error:
                unusable.append(f"{quote(address.value)}: {error}")
                continue
            if world.usable_addresses is None or ip in world.usable_addresses:
                usable.append(ip)
            else:
                unusable.append(f"{ip} is none of this machine's addresses")
    return Addresses(tuple(dict.fromkeys(usable)), "; ".join(unsupported), "; ".join(unusable))


class Places:
    """Which places are whose, by protocol. Who comes first has it: Ingresses, then the oldest Gateway."""

    def __init__(self, ingress_binds: Mapping[Bind, Protocol], given: GatewayPorts, settings: PlanSettings) -> None:
        self._taken = {bind: (protocol, "Ingress") for bind, protocol in ingress_binds.items()}
        self._given = given
        self._in_cluster = settings.in_cluster

    def binds(self, gateway: ObjectKey, port: int, addresses: Addresses) -> tuple[Bind, ...]:
        """Return where a port of a Gateway is bound."""
        if self._in_cluster:
            number = self._given.get(GatewayPort(*gateway, port))
            return () if number is None else (Bind("", number),)
        if addresses.nowhere:
            return ()
        return tuple(Bind(address, port) for address in addresses.usable or ("",))

    def taken(self, gateway: Gateway, addresses: Addresses) -> dict[str, str]:
        """Return the listeners that cannot have their port because another owner has it, with the reason."""
        found = {}
        for listener in gateway.spec.listeners or ():
            for bind in self.binds(gateway.metadata.key, listener.port, addresses):
                protocol, owner = self._taken.get(bind, (None, ""))
                if protocol is not None and protocol.value.upper() != listener.protocol:
                    found[listener.name] = f"port {bind} is {owner}'s already, for protocol {protocol.value.upper()}"
        return found

    def take(self, gateway: ObjectKey, listeners: Sequence[Judged], addresses: Addresses) -> None:
        """Note the places of a Gateway's listeners that are served."""
        for judged in listeners:
            if judged.served and judged.protocol is not None:
                for bind in self.binds(gateway, judged.listener.port, addresses):
                    self._taken.setdefault(bind, (judged.protocol, f"Gateway {gateway}"))
