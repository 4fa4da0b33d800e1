"""What kproxy asks of the kernel over netlink, and what it makes of the answers."""

import contextlib
import subprocess
import sys

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from kproxy.conntrack.flows import socket_address, split
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.conntrack.looks import Look, looks
from kproxy.conntrack.message import LAYOUTS, Reader, RefusedError
from kproxy.conntrack.requests import dump_request
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily, Protocol
from tests.kit.netns import need
from tests.kit.packets.conntrack import DNS, SILENCE, TARGET, Dns, Net, answers, ip

kernel = pytest.mark.kernel
both_families = pytest.mark.parametrize("family", list(IPFamily))

UDP, CONNECTIONS = Look((Protocol.UDP,)), Look((Protocol.SCTP, Protocol.TCP))


def look_at(family: IPFamily, address: str, port: int = DNS) -> Look:
    """The narrowest look at UDP flows to an address: see `looks` for why it is not narrower in IPv6."""
    (look,) = looks(family, {Protocol.UDP: {Destination(address, port)}})
    return look


@kernel
@both_families
def test_local_addresses_are_what_the_kernel_says(net: Net, family: IPFamily) -> None:
    mine = ["10.0.0.1", "10.244.0.1", "127.0.0.1", "127.9.9.9"]
    others = ["10.0.0.2", "10.244.0.11", "192.0.2.7"]
    if family is IPFamily.IPV6:
        mine, others = ["fd00:a::1", "fd00:244::1", "::1"], ["fd00:a::2", "fd00:244::11", "2001:db8:c::7"]
    with net.lab.node.namespace.entered(), KernelConntrack(family) as conntrack:
        assert [conntrack.is_local(address) for address in mine] == [True] * len(mine)
        assert [conntrack.is_local(address) for address in others] == [False] * len(others)
    with net.lab.pod("there").namespace.entered(), KernelConntrack(family) as conntrack:
        assert not conntrack.is_local(mine[0])


@kernel
@both_families
def test_kernel_picks_flows_by_destination(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("here-1")
    net.kproxy.sync()
    address = dns.cluster_ips[family]
    with net.flow(net.lab.pod("asking"), address) as flow:
        assert answers(flow).server == "here-1"
        with net.lab.node.namespace.entered(), KernelConntrack(family) as conntrack:
            everything = set(conntrack.flows(UDP))
            by_port = set(conntrack.flows(UDP._replace(port=DNS)))
            by_both = set(conntrack.flows(look_at(family, address)))
            assert by_both <= by_port <= everything
            assert {split(flow.destination)[1] for flow in by_port} == {DNS}
            assert list(conntrack.flows(look_at(family, address, DNS + 1))) == []
            picked = [flow for flow in by_both if split(flow.destination) == (address, DNS)]
            assert len(picked) == 1
            assert conntrack.release(picked) == 1
            assert conntrack.release(picked) == 0  # it is gone, which is no error
        assert answers(flow).server == "here-1"


@kernel
@both_families
def test_thousands_of_flows_are_released_at_once(net: Net, dns: Dns, family: IPFamily) -> None:
    address, source = dns.cluster_ips[family], ip(net.lab.pod("asking"), family)
    gone = ip(net.lab.pod("there"), family)
    address_family = LAYOUTS[family].address_family
    dns.put("here-1")
    net.kproxy.sync()
    with net.lab.node.namespace.entered(), NFCTSocket(address_family) as sock:
        for port in range(20000, 21000):
            one_way = NFCTAttrTuple(address_family, source, address, 17, port, DNS)
            back = NFCTAttrTuple(address_family, gone, source, 17, TARGET, port)
            sock.entry("add", timeout=60, tuple_orig=one_way, tuple_reply=back)
    assert len(net.entries(family, address)) == 1000
    assert net.kproxy.sync(everything=True) == 1000
    assert net.entries(family, address) == []


@kernel
@both_families
def test_a_kernel_that_cannot_choose_is_asked_for_everything(
    net: Net, dns: Dns, family: IPFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the question is spoilt instead: a status without any bit to look at is refused by those that know of it."""

    def spoilt(family: IPFamily, look: Look | None) -> bytes:
        request = dump_request(family, look)
        return request if look is None else request[:-4] + bytes(4)

    monkeypatch.setattr("kproxy.conntrack.kernel.dump_request", spoilt)
    address = dns.cluster_ips[family]
    with (
        contextlib.closing(net.lab.pod("asking").flow(address, DNS)) as flow,
        net.lab.node.namespace.entered(),
        KernelConntrack(family) as conntrack,
    ):
        flow.ask(SILENCE)
        net.lab.pod("asking").ask(address, DNS, timeout=SILENCE)
        with pytest.raises(RefusedError):
            list(conntrack._dump(spoilt(family, CONNECTIONS), Reader(family, CONNECTIONS.protocols)))
        place = socket_address(address, DNS)
        told = [one for one in conntrack.flows(CONNECTIONS) if one.destination == place]
        assert [one.protocol for one in told] == [Protocol.TCP]
        assert conntrack.release(told) == 1


WITHOUT_PERMISSION = """
from kproxy.conntrack.flows import split
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.conntrack.looks import Look
from kproxy.conntrack.flows import ConntrackError
from kproxy.state.model import IPFamily, Protocol
try:
    with KernelConntrack(IPFamily.IPV4) as conntrack:
        list(conntrack.flows(Look((Protocol.UDP,))))
except ConntrackError as error:
    print(error)
"""


@kernel
def test_missing_permission_is_said_with_its_remedy(net: Net) -> None:
    need("setpriv")
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    command = [*without, sys.executable, "-c", WITHOUT_PERMISSION]
    with net.lab.node.namespace.entered():
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CAP_NET_ADMIN" in done.stdout
