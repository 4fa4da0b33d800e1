"""What rules tell of the frontends they serve: the memory of a kproxy that is no more."""

import pytest

from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules.served import destinations_in_text
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily
from tests.kit.apiserver.objects import make_service, make_slice, service_port, slice_port
from tests.kit.packets.conntrack import DNS, TARGET, Net, served

SERVICES = 40  # enough for the large layout's trees to grow branches


@pytest.mark.kernel
@pytest.mark.parametrize("family", list(IPFamily))
@pytest.mark.parametrize("layout", list(Layout))
def test_rules_in_the_kernel_tell_what_they_serve(net: Net, family: IPFamily, layout: Layout) -> None:
    """As the kernel holds them, and as iptables-save prints them."""
    kproxy = net.restart(layout)
    wanted = set()
    for number in range(SERVICES):
        name, cluster_ips, node_port = f"many-{number}", net.new_addresses(), 30100 + number
        udp = service_port(DNS, name="dns", protocol="UDP", node_port=node_port)
        tcp = service_port(DNS, name="dns-tcp", node_port=node_port + SERVICES)
        kproxy.put(make_service(name, cluster_ip=list(cluster_ips.values()), type="NodePort", ports=[udp, tcp]))
        for version, pod_ip in (("v4", net.lab.pod("there").ip), ("v6", net.lab.pod("there").ip6)):
            ports = [slice_port(TARGET, name="dns", protocol="UDP"), slice_port(TARGET, name="dns-tcp")]
            kproxy.put(make_slice(name, name=f"{name}-{version}", endpoints=[pod_ip], ports=ports))
        wanted |= {Destination(cluster_ips[family], DNS), Destination(None, node_port)}
    kproxy.sync()
    with net.lab.node.namespace.entered():
        assert served(family) == wanted
    assert set(destinations_in_text(net.lab.node.iptables_save(family, "nat").splitlines())) == wanted
    net.restart().sync()


@pytest.mark.parametrize(
    "line",
    [
        "-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-X",  # not UDP
        "-A PREROUTING -d 10.0.0.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.0.9:53",  # a neighbour's
        "-A KUBE-HOSTPORTS -p udp -m udp --dport 53 -j KUBE-HP-X",
        "-A KUBE-SEP-X -p udp -m udp -j DNAT --to-destination 10.244.0.9:53",
        "-A KUBE-SERVICES -d 10.96.0.0/20 -p udp -j KUBE-SERVICES-0A600",  # the large layout's signposts
        "-A KUBE-NODEPORTS -p udp -m udp --dport 30000:30063 -j KUBE-NODEPORTS-U753",
        "-A KUBE-SERVICES ! -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-SVC-X",
        ":KUBE-SERVICES - [0:0]",
        '-A KUBE-SERVICES -m comment --comment "say -p udp --dport 53" -j KUBE-NODEPORTS',
        "-A KUBE-SERVICES -d 10.96.0.10 -p udp -m comment --comment it's -m udp --dport 53 -j ACCEPT",
        "-A KUBE-SERVICES -d nowhere -p udp -m udp --dport 53 -j ACCEPT",
        "-A KUBE-SERVICES -d 10.96.0.10 -p udp -m udp --dport",
    ],
)
def test_other_rules_tell_nothing(line: str) -> None:
    assert list(destinations_in_text([line])) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53", Destination("10.96.0.10", 53)),
        ("KUBE-SERVICES-0A6000 -d 10.96.0.10/32 -p udp -m udp --dport 53", Destination("10.96.0.10", 53)),
        ("KUBE-SERVICES -d fd00:10:96::a/128 -p udp -m udp --dport 53", Destination("fd00:10:96::a", 53)),
        ('KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "a/b:c cluster IP" -m udp --dport 53',
         Destination("10.96.0.10", 53)),
        ("KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment -d -m udp --dport 53",
         Destination("10.96.0.10", 53)),
        ("KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment ! -m udp --dport 53",
         Destination("10.96.0.10", 53)),
        ("KUBE-NODEPORTS -p udp -m udp --dport 30053", Destination(None, 30053)),
    ],
)  # fmt: skip
def test_entries_of_the_lists_tell_their_destination(options: str, told: Destination) -> None:
    assert list(destinations_in_text([f"-A {options} -j KUBE-SVC-X"])) == [told]
