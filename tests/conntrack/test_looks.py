"""What the kernel is asked for: as few looks as can be, and as narrow."""

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.conntrack.looks import Look, looks
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily, Protocol

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
ONE, OTHER = Destination("10.96.0.10", 53), Destination("10.96.0.11", 53)
SIX = Destination("fd00:10:96::10", 53)
NODE_PORT = Destination(None, 30053)
EVERYTHING = [Look((UDP,))]


@pytest.mark.parametrize(
    ("family", "destinations", "asked_for"),
    [
        (V4, None, EVERYTHING),
        (V4, {ONE, OTHER, NODE_PORT}, [Look((UDP,), *ONE), Look((UDP,), *OTHER), Look((UDP,), *NODE_PORT)]),
        (V4, {ONE, Destination(None, 53)}, [Look((UDP,), None, 53)]),  # the one is among the others
        (V4, {Destination("10.96.0.10", n) for n in range(8)}, [Look((UDP,), "10.96.0.10", n) for n in range(8)]),
        (V4, {Destination("10.96.0.10", port) for port in range(9)}, EVERYTHING),
        (V6, {SIX, Destination("fd00:10:96::11", 53)}, [Look((UDP,), None, 53)]),
    ],
)
def test_few_destinations_of_udp_are_asked_for_one_by_one(
    family: IPFamily, destinations: set[Destination] | None, asked_for: list[Look]
) -> None:
    assert set(looks(family, {UDP: destinations})) == set(asked_for)


@pytest.mark.parametrize(
    ("family", "destinations", "asked_for"),
    [
        (V4, {TCP: None}, Look((TCP,))),
        (V4, {TCP: None, SCTP: None}, Look((SCTP, TCP))),
        (V4, {TCP: {ONE}}, Look((TCP,), *ONE)),
        (V4, {TCP: {ONE, OTHER}}, Look((TCP,), None, 53)),
        (V4, {TCP: {ONE, NODE_PORT}}, Look((TCP,))),
        (V4, {TCP: {NODE_PORT}}, Look((TCP,), None, 30053)),
        (V4, {TCP: {ONE}, SCTP: {ONE}}, Look((SCTP, TCP))),
        (V4, {TCP: {ONE}, SCTP: None}, Look((SCTP, TCP))),
        (V6, {TCP: {SIX}}, Look((TCP,), None, 53)),
    ],
)
def test_connections_take_one_look(
    family: IPFamily, destinations: Mapping[Protocol, Collection[Destination] | None], asked_for: Look
) -> None:
    assert looks(family, destinations) == [asked_for]
    assert looks(family, {**destinations, UDP: None}) == [*EVERYTHING, asked_for]


def test_where_nothing_matters_nothing_is_asked() -> None:
    assert looks(V4, {}) == []


PLACES = st.sets(st.builds(Destination, st.sampled_from(["10.96.0.10", "10.96.0.11", None]), st.integers(50, 62)))


@given(places=st.dictionaries(st.sampled_from(Protocol), PLACES), family=st.sampled_from(IPFamily))
def test_looks_take_in_all_that_matters(places: dict[Protocol, set[Destination]], family: IPFamily) -> None:
    asked = looks(family, places)
    assert len(asked) <= 9
    for protocol, destinations in places.items():
        for ip, port in destinations:
            assert any(
                protocol in look.protocols and look.ip in (ip, None) and look.port in (port, None) for look in asked
            )
    assert {look.unanswered for look in asked if UDP in look.protocols} <= {False}
    assert {look.unanswered for look in asked if UDP not in look.protocols} <= {True}
