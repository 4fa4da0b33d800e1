"""Connections that nobody answers, and where conntrack sends them."""

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from hack.lab import Answer, Outcome, until
from hack.lab.hosts import Host
from kproxy.conntrack.flows import PROTOCOL_NUMBERS
from kproxy.conntrack.message import LAYOUTS
from kproxy.state.model import IPFamily, Protocol
from tests.kit.packets.conntrack import DNS, PATIENCE, SILENCE, TARGET, Dns, Net, ip, source_ports


class Client:
    """Somebody who asks from the same port each time: to conntrack, as if the first packet came again."""

    def __init__(self, who: Host, web: Dns, address: str, port: int = DNS) -> None:
        self._who, self._web, self._to = who, web, (address, port)
        self.source_port = next(source_ports)

    def ask(self, timeout: float = SILENCE) -> Answer:
        return self._who.ask(*self._to, self._web.protocol, timeout=timeout, source_port=self.source_port)

    def ask_in_vain(self) -> Outcome:
        """Ask where nobody answers, and wait until node-a's conntrack knows: a packet may still be on its way."""
        outcome = self.ask().outcome
        address, port = self._to
        family = IPFamily.IPV6 if ":" in address else IPFamily.IPV4
        net, protocol = self._web.net, self._web.protocol
        until(
            lambda: net.entries(family, address, port, protocol, source_port=self.source_port),
            PATIENCE,
            "conntrack to know of an unanswered connection",
        )
        return outcome

    def answered_by(self) -> str:
        """Ask, and wait for as long as it takes: an answer may be late on a machine that has other things to do."""
        return self._who.ask(*self._to, self._web.protocol, timeout=PATIENCE, source_port=self.source_port).server


def goes_to(net: Net, web: Dns, family: IPFamily) -> list[str]:
    """Where the connections to a service's ClusterIP go."""
    return [entry.goes_to for entry in net.entries(family, web.cluster_ips[family], DNS, web.protocol)]


def add_unanswered(net: Net, web: Dns, family: IPFamily, address: str, *, number: int = 1, zone: int = 0) -> None:
    """Put connections into conntrack that lead to a pod which is no endpoint."""
    source, there = ip(net.lab.pod("asking"), family), ip(net.lab.pod("there"), family)
    address_family, protocol = LAYOUTS[family].address_family, PROTOCOL_NUMBERS[Protocol(web.protocol.lower())]
    with net.lab.node.namespace.entered(), NFCTSocket(address_family) as sock:
        for port in range(20000, 20000 + number):
            one_way = NFCTAttrTuple(address_family, source, address, protocol, port, DNS)
            back = NFCTAttrTuple(address_family, there, source, protocol, TARGET, port)
            more = {"zone": zone} if zone else {}
            sock.entry("add", timeout=60, tuple_orig=one_way, tuple_reply=back, **more)
