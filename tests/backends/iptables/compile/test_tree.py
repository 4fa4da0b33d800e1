"""The dispatch tree: finds what the list finds, looks the same whatever its history, and costs what a change costs."""

import functools
import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.iptables.compile import tree
from kproxy.backends.iptables.compile.tree import LEAF, DispatchTree, Item, LinearList, item_of
from kproxy.backends.iptables.rules.ruleset import Chain, DestinationPort, Jump, Prefix, Rule
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from tests.kit.examples import chances
from tests.kit.semantics import examples

PREFIX = "KUBE-TREE-"
Place = tuple[str, Protocol, int]


def name(number: int) -> ServicePortName:
    return ServicePortName("shop", f"s{number}", "", Protocol.TCP)


def entry(place: Place, number: int) -> tuple[Item, Rule]:
    """Return an entry for one destination, whose target tells which it is."""
    ip, protocol, port = place
    bits = 128 if ":" in ip else 32
    rule = Rule(
        target=Jump(f"SERVICE-{number}"),
        destination=Prefix(f"{ip}/{bits}") if ip else None,
        protocol=protocol,
        matches=(DestinationPort(protocol, port, port),),
    )
    return item_of(rule, name(number), 0), rule


_address = functools.cache(ipaddress.ip_address)
_network = functools.cache(ipaddress.ip_network)


def matches(rule: Rule, place: Place) -> bool:
    ip, protocol, port = place
    if rule.destination and _address(ip) not in _network(rule.destination.cidr):
        return False
    if rule.protocol not in (None, protocol):
        return False
    return all(isinstance(m, DestinationPort) and m.first <= port <= m.last for m in rule.matches)


def found(chains: dict[str, Chain], root: Chain, place: Place) -> tuple[list[str], int]:
    """Return which entries a packet meets, in order, and how many rules it is compared with."""
    met: list[str] = []
    steps = 0
    for rule in root:
        steps += 1
        if not matches(rule, place):
            continue
        assert isinstance(rule.target, Jump)
        if rule.target.chain.startswith("SERVICE-"):
            met.append(rule.target.chain)
            continue
        below, more = found(chains, chains[rule.target.chain], place)
        met += below
        steps += more
    return met, steps


class Pair:
    """A list and a tree with the same entries, and the tree's chains kept up to date by what `update` reports."""

    def __init__(self, family: IPFamily, *, by_address: bool) -> None:
        self.list = LinearList()
        self.tree = DispatchTree(family, PREFIX, by_address=by_address)
        self.chains: dict[str, Chain] = {}

    def update(self, removed: Iterable[Item], added: Iterable[tuple[Item, Rule]]) -> int:
        """Take entries out and in; return how many chains changed."""
        removed, added = list(removed), list(added)
        self.list.update(removed, added)
        changed = self.tree.update(removed, added)
        for chain, rules in changed.items():
            if rules is None:
                del self.chains[chain]
            else:
                self.chains[chain] = rules
        return len(changed)


@contextmanager
def splitting_at(entries: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "LEAF", entries)
        yield


PROTOCOLS = st.sampled_from(Protocol)
PORTS = st.sampled_from([1, 53, 79, 80, 81, 443, 4095, 4096, 8080, 65534, 65535]) | st.integers(1, 65_535)
V4 = st.builds(
    "10.{}.{}.{}".format,
    st.integers(95, 97),
    st.sampled_from([0, 15, 16, 255]),
    st.sampled_from([0, 1, 15, 16, 254, 255]),
)
V6 = st.builds("fd00:10:96::{:x}:{:x}".format, st.sampled_from([1, 0xFFFF]), st.integers(1, 300))
PLACES = {
    "ipv4": st.tuples(V4, PROTOCOLS, PORTS),
    "ipv6": st.tuples(V6, PROTOCOLS, PORTS),
    "node ports": st.tuples(st.just(""), PROTOCOLS, st.integers(30_000, 32_767)),
}
FAMILIES = {"ipv4": IPFamily.IPV4, "ipv6": IPFamily.IPV6, "node ports": IPFamily.IPV4}


def near(place: Place) -> list[Place]:
    ip, _, port = place
    ports = [number for number in (port - 1, port, port + 1) if 0 <= number <= 65_535]
    ips = [str(ipaddress.ip_address(ip) + step) for step in (-1, 0, 1)] if ip else [""]
    return [(one, which, number) for one in ips for which in Protocol for number in ports]


@pytest.mark.parametrize("split_at", [2, LEAF])
@pytest.mark.parametrize("kind", PLACES)
@examples(25)
@given(data=st.data())
def test_the_tree_finds_what_the_list_finds(kind: str, split_at: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(PLACES[kind], min_size=1, max_size=8 * split_at))
    with splitting_at(split_at):
        pair = Pair(FAMILIES[kind], by_address=kind != "node ports")
        pair.update([], [entry(place, number) for number, place in enumerate(places)])
    for place in data.draw(st.lists(st.sampled_from(places), max_size=4)):
        for probe in near(place):
            in_list, _ = found({}, pair.list.root, probe)
            in_tree, _ = found(pair.chains, pair.tree.root, probe)
            assert sorted(in_tree) == sorted(in_list)
            assert in_tree[:1] == sorted(in_list, key=lambda one: name(int(one.removeprefix("SERVICE-"))))[:1]


@pytest.mark.parametrize("split_at", [2, LEAF])
@pytest.mark.parametrize("kind", PLACES)
@examples(25)
@given(data=st.data(), chance=chances)
def test_a_trees_history_does_not_show(kind: str, split_at: int, data: st.DataObject, chance: Random) -> None:
    places = data.draw(st.lists(PLACES[kind], min_size=1, max_size=6 * split_at))
    entries = [entry(place, number) for number, place in enumerate(places)]
    with splitting_at(split_at):
        pair = Pair(FAMILIES[kind], by_address=kind != "node ports")
        held: dict[Item, Rule] = {}
        for _ in range(12):
            size = chance.choice([1, 1, 2, 5, 80])
            removed = chance.sample(list(held), min(len(held), chance.randrange(size + 1)))
            added = [(item, rule) for item, rule in chance.sample(entries, min(len(entries), size)) if item not in held]
            pair.update(removed, added)
            held = {item: rule for item, rule in held.items() if item not in removed} | dict(added)
            fresh = Pair(FAMILIES[kind], by_address=kind != "node ports")
            fresh.update([], held.items())
            assert pair.tree.root == fresh.tree.root
            assert pair.chains == fresh.chains


def test_every_port_finds_its_way() -> None:
    """All node ports that there can be, so that no guard is a port too narrow or too wide."""
    ports = [*range(1, 65_536, 101), *range(0x0FF0, 0x1010), *range(0x7EF0, 0x8010)]
    places = [("", Protocol.TCP, port) for port in dict.fromkeys(ports)]
    pair = Pair(IPFamily.IPV4, by_address=False)
    pair.update([], [entry(place, number) for number, place in enumerate(places)])
    for number, place in enumerate(places):
        assert found(pair.chains, pair.tree.root, place)[0] == [f"SERVICE-{number}"]
    for place in set(near(places[5])) - set(places):
        assert found(pair.chains, pair.tree.root, place)[0] == []


def test_walks_are_short_and_changes_small() -> None:
    """Ten thousand services: no packet is compared with more than a few dozen rules, one service touches few chains."""
    network = ipaddress.ip_network("10.96.0.0/12")
    places = [(str(network[number * 97 % 2**20]), Protocol.TCP, 80) for number in range(10_000)]
    pair = Pair(IPFamily.IPV4, by_address=True)
    pair.update([], [entry(place, number) for number, place in enumerate(places)])
    assert max(len(chain) for chain in (pair.tree.root, *pair.chains.values())) <= LEAF
    for place in places[::501]:
        met, steps = found(pair.chains, pair.tree.root, place)
        assert len(met) == 1
        assert steps <= 6 * LEAF
    item, rule = entry(places[77], 77)
    assert pair.update([item], []) <= 6
    assert pair.update([], [(item, rule)]) <= 6


def test_a_guard_leads_to_each_part() -> None:
    places = [(f"10.96.{number // 100}.{number % 100}", Protocol.TCP, 80) for number in range(300)]
    pair = Pair(IPFamily.IPV4, by_address=True)
    pair.update([], [entry(place, number) for number, place in enumerate(places)])
    guards = [rule for rule in pair.tree.root if isinstance(rule.target, Jump)]
    assert [rule.destination.cidr for rule in guards if rule.destination] == [
        "10.96.0.0/24",
        "10.96.1.0/24",
        "10.96.2.0/24",
    ]
    assert all(chain.startswith(PREFIX) and len(chain) <= 28 for chain in pair.chains)


def test_many_entries_for_one_place_stay_in_one_chain() -> None:
    pair = Pair(IPFamily.IPV4, by_address=True)
    place = ("10.96.0.1", Protocol.TCP, 80)
    pair.update([], [entry(place, number) for number in range(40)])
    assert len(pair.tree.root) == 40
    assert found(pair.chains, pair.tree.root, place)[0][0] == "SERVICE-0"


def test_an_empty_tree_is_an_empty_chain() -> None:
    pair = Pair(IPFamily.IPV4, by_address=True)
    first = entry(("10.96.0.1", Protocol.TCP, 80), 1)
    pair.update([], [first])
    pair.update([first[0]], [])
    assert pair.tree.root == ()
    assert pair.chains == {}
