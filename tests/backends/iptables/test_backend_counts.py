"""What the iptables backend tells of connections, over an applier that stands in for the kernel."""

from typing import Any

import msgspec
import pytest

from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules.ruleset import (
    DestinationNat,
    Reject,
    Table,
)
from kproxy.state.model import ServicePortName
from tests.backends.iptables.kit import Node


@pytest.mark.parametrize("layout", list(Layout))
def test_connections_are_counted_where_they_are_sent_to_an_endpoint(layout: Layout) -> None:
    node = Node(layout)
    web = node.serve(1, "10.244.0.1", "10.244.0.2")
    empty = node.serve(2)
    node.sync()
    packets = {DestinationNat("10.244.0.1", 80): 5, DestinationNat("10.244.0.2", 80): 7, Reject(): 3}
    node.kernel.packets = lambda rule: packets.get(rule.target, 0) if rule.target else 0
    totals = node.totals()
    assert totals.services == {web: 12, empty: 0}
    assert totals.endpoints == {(web, "10.244.0.1:80"): 5, (web, "10.244.0.2:80"): 7}
    assert totals.rejected == {web: 0, empty: 3}
    assert totals.dropped == {web: 0, empty: 0}
    assert totals.packets("invalid_dropped") == 0


def test_only_services_that_have_moved_are_told_of() -> None:
    node = Node()
    one, other = node.serve(1, "10.244.0.1", "10.244.0.2"), node.serve(2, "10.244.0.3")
    node.sync()
    packets = {"10.244.0.1": 5, "10.244.0.3": 7}
    node.kernel.packets = lambda rule: packets.get(rule.target.ip, 0) if isinstance(rule.target, DestinationNat) else 0

    def told() -> dict[ServicePortName, int]:
        counts = node.backend.counts()
        assert counts is not None
        return {name: sum(counter.packets for counter in its) for name, its in counts.endpoints.items()}

    assert told() == {one: 5, other: 7}
    assert told() == {}
    packets["10.244.0.3"] = 8
    assert told() == {other: 8}
    third = node.serve(3, "10.244.0.1")
    node.sync()
    assert told() == {third: 5}
    node.serve(2, "10.244.0.4")
    node.sync()
    assert told() == {other: 0}


def test_a_sync_in_between_makes_a_reading_useless() -> None:
    node = Node()
    web = node.serve(1, "10.244.0.1")
    node.sync()
    node.kernel.packets = lambda _: 1
    counted, syncs = node.kernel.counted, iter([True, True, False])

    def slow(*asked: Any) -> Any:
        found = counted(*asked)
        if next(syncs, False):
            node.sync(full=True)
        return found

    node.kernel.counted = slow  # type: ignore[method-assign,assignment]
    assert node.backend.counts() is None
    assert node.totals().services == {web: 1}


def test_a_chain_that_is_not_ours_just_now_counts_for_nothing() -> None:
    node = Node()
    web = node.serve(1, "10.244.0.1")
    node.sync()
    node.kernel.packets = lambda _: 1
    assert node.kernel.held is not None
    chains = {name: chain[:-1] for name, chain in node.kernel.held.nat.chains.items()}
    node.kernel.held = msgspec.structs.replace(node.kernel.held, nat=Table(chains))
    assert node.totals().services == {web: 0}
