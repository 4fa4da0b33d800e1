"""The layout of nftables: sizes, draws, names, and the numbers of endpoints."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.nftables.compile.service import number_endpoints
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.prefixes import merged
from kproxy.backends.nftables.rules.ways import ENDPOINT_MAPS, Place, Way, draws, size_for
from kproxy.plan.model import Masquerade, Target
from kproxy.state.model import Protocol, ServicePortName
from tests.kit.nft import pods

NFT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9/\\_.-]*")
TCP, PORTS = Place(Protocol.TCP, node_port=False), Place(Protocol.UDP, node_port=True)


@pytest.mark.parametrize(
    ("endpoints", "size"), [(0, 0), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (1000, 1024), (1025, 2048)]
)
def test_sizes_are_powers_of_two(endpoints: int, size: int) -> None:
    assert size_for(endpoints) == size


@given(st.integers(1, 5000))
def test_draws_hardly_ever_fail_together(endpoints: int) -> None:
    size = size_for(endpoints)
    fails = (1 - Fraction(endpoints, size)) ** draws(size)
    assert fails <= Fraction(1, 2**32)


@given(st.integers(3, 5000))
def test_no_draw_is_there_for_nothing(endpoints: int) -> None:
    size = size_for(endpoints)
    fewest = size // 2 + 1
    assert (1 - Fraction(fewest, size)) ** (draws(size) - 1) > Fraction(1, 2**32)


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (Way(TCP, Target.CLUSTER, 4), "tcp/cluster-4"),
        (Way(TCP, Target.CLUSTER, 4, Masquerade.OFF_CLUSTER), "tcp/cluster-4/off-cluster"),
        (Way(TCP, Target.LOCAL, 2, Masquerade.ALWAYS), "tcp/local-2/masquerade"),
        (Way(PORTS, Target.LOCAL, 1, short_cut=True), "udp/node-port/local-1/short-cut"),
        (Way(PORTS, Target.CLUSTER, 0, short_cut=True), "udp/node-port/nowhere/short-cut"),
        (Way(TCP, Target.CLUSTER, 8, of_short_cut=True), "tcp/short-cut/cluster-8"),
        (Way(TCP, Target.CLUSTER, 8, of_short_cut=True, alone=True), "tcp/short-cut/only/cluster-8"),
    ],
)
def test_names_tell_the_way(way: Way, name: str) -> None:
    assert way.name == name
    assert NFT_NAME.fullmatch(name)


def test_there_is_a_map_for_each_protocol_place_and_pool() -> None:
    assert len(ENDPOINT_MAPS) == 12
    assert ENDPOINT_MAPS["sctp/node-port/local-endpoints"] == Place(Protocol.SCTP, node_port=True)


# --- numbers of endpoints ------------------------------------------------------------------------------------------


def test_endpoints_are_numbered_in_their_order() -> None:
    assert number_endpoints((), pods(3, 1, 2)) == (("10.244.0.3", 8080), ("10.244.0.1", 8080), ("10.244.0.2", 8080))


@pytest.mark.parametrize(
    ("before", "after", "numbers"),
    [
        ((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4)),
        ((1, 2, 3), (4, 2, 3), (4, 2, 3)),
        ((1, 2, 3), (2, 3), (3, 2)),
        ((1, 2, 3), (1, 2), (1, 2)),
        ((1, 2, 3), (9, 8), (9, 8)),
        ((1, 2), (), ()),
    ],
)
def test_endpoints_that_stay_keep_their_numbers(
    before: tuple[int, ...], after: tuple[int, ...], numbers: tuple[int, ...]
) -> None:
    numbered = number_endpoints(number_endpoints((), pods(*before)), pods(*after))
    assert numbered == tuple((pod.ip, pod.port) for pod in pods(*numbers))


@given(st.lists(st.integers(1, 200), unique=True, max_size=30), st.lists(st.integers(1, 200), unique=True, max_size=30))
def test_numbers_have_no_gaps_and_few_change(before: list[int], after: list[int]) -> None:
    old = number_endpoints((), pods(*before))
    new = number_endpoints(old, pods(*after))
    assert sorted(new) == sorted((pod.ip, pod.port) for pod in pods(*after))
    moved = sum(pod in old and (number >= len(old) or old[number] != pod) for number, pod in enumerate(new))
    assert moved <= max(0, len(old) - len(new))


# --- names and prefixes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["http", "", 'x"; drop', "ü", "a" * 64])
def test_names_of_services_are_harmless_in_nft(port: str) -> None:
    name = ServicePortName("shop", "web", port, Protocol.TCP)
    prefix = names.own_prefix("affinity", name)
    assert NFT_NAME.fullmatch(prefix)
    assert len(f"{prefix}/internal") < 256


def test_numbers_for_names_fit_where_nft_takes_them_and_differ() -> None:
    numbers = {names.number_for(f"10.244.0.{host}:8080") for host in range(250)}
    assert len(numbers) == 250
    assert all(0 <= number < 2**32 for number in numbers)
    assert names.number_for("10.244.0.1:8080") == names.number_for("10.244.0.1:8080")


@given(st.lists(st.tuples(*[st.text(max_size=5)] * 3), min_size=2, max_size=2, unique=True))
def test_no_two_services_have_one_prefix(parts: list[tuple[str, str, str]]) -> None:
    one, other = (names.own_prefix("turn", ServicePortName(*part, Protocol.TCP)) for part in parts)
    assert one != other


def test_prefixes_do_not_overlap() -> None:
    assert merged(("10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/25", "192.0.2.128/25")) == ("10.0.0.0/8", "192.0.2.0/24")
    assert merged(("fd00::/8", "fd00:1::/32")) == ("fd00::/8",)
    assert merged(("10.0.0.0/8", "0.0.0.0/0")) == ("0.0.0.0/0",)
