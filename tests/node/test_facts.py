"""What a Node and ServiceCIDRs say that makes no sense is left out, and named; all else of them counts."""

import msgspec

from kproxy.api.types import Node, ServiceCIDR
from kproxy.node.facts import node_facts, problems_of
from kproxy.state.model import IPFamily
from tests.kit.apiserver.objects import make_node, make_service_cidr

V4, V6 = IPFamily.IPV4, IPFamily.IPV6


def node(*, addresses: tuple[str, ...] = (), pod_cidrs: tuple[str, ...] = ()) -> Node:
    return msgspec.convert(make_node("node-a", addresses=addresses, pod_cidrs=pod_cidrs), Node)


def old_node(pod_cidr: str) -> Node:
    """A Node of before there were two families, with one range alone."""
    raw = make_node("node-a")
    return msgspec.convert({**raw, "spec": {"podCIDR": pod_cidr}}, Node)


def told(of: Node) -> list[str]:
    return [f"{problem.field}: {problem.reason}" for problem in problems_of(of)]


def test_addresses_that_are_none_are_passed_over_and_named() -> None:
    odd = node(addresses=("192.0.2.300", "192.0.2.1", "fd00::1::", "fd00::1"))
    assert node_facts("node-a", odd).ips == {V4: "192.0.2.1", V6: "fd00::1"}
    assert told(odd) == [
        "status.addresses[0].address: '192.0.2.300': not an IP address; it is left out",
        "status.addresses[2].address: 'fd00::1::': not an IP address; it is left out",
    ]


def test_ranges_that_are_none_are_passed_over_and_named() -> None:
    odd = node(pod_cidrs=("10.244.0.0/33", "10.244.1.0/24", "fd00:10:244::/64"))
    assert node_facts("node-a", odd).pod_cidrs == {V4: "10.244.1.0/24", V6: "fd00:10:244::/64"}
    assert told(odd) == ["spec.podCIDRs[0]: '10.244.0.0/33': not a CIDR such as 192.0.2.0/24; it is left out"]


def test_the_one_range_of_an_old_node() -> None:
    assert node_facts("node-a", old_node("10.244.1.0/24")).pod_cidrs == {V4: "10.244.1.0/24"}
    assert node_facts("node-a", old_node("nonsense")).pod_cidrs == {}
    assert told(old_node("nonsense")) == ["spec.podCIDR: 'nonsense': not a CIDR such as 192.0.2.0/24; it is left out"]


def test_service_ranges_that_are_none_are_passed_over() -> None:
    odd = msgspec.convert(make_service_cidr("odd", "10.96.0.0/99", "10.96.0.0/12"), ServiceCIDR)
    assert node_facts("node-a", None, service_cidrs=[odd]).service_cidrs == ("10.96.0.0/12",)


def test_an_address_to_bind_to_that_is_none_or_everybodys_says_nothing_of_the_node() -> None:
    one = node(addresses=("192.0.2.1",))
    for address in ("", "0.0.0.0", "127.0.0.1", "::"):
        assert node_facts("node-a", one, bind_address=address).ips == {V4: "192.0.2.1"}
    assert node_facts("node-a", one, bind_address="192.0.2.7").ips == {V4: "192.0.2.7"}
