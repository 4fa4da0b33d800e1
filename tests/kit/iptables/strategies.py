"""Hypothesis strategies for rules: every match and target kproxy has, with any value that the kernel takes."""

import ipaddress
import string

from hypothesis import assume
from hypothesis import strategies as st

from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    Interface,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Match,
    Prefix,
    Random,
    RecentCheck,
    RecentSet,
    Reject,
    Return,
    Rule,
    SetMark,
    Side,
    State,
    TableName,
    TargetTerm,
    Turn,
)
from kproxy.state.model import IPFamily, Protocol

TARGET_CHAINS = ("KUBE-SVC-AAAAAAAAAAAAAAAA", "KUBE-SEP-BBBBBBBBBBBBBBBB", "KUBE-MARK-MASQ")
"""Chains that the rules may jump to."""

_WORD = string.ascii_letters + string.digits + "-_"
_PRINTABLE = string.printable.split("\t", maxsplit=1)[0]

numbers32 = st.integers(0, 2**32 - 1)
ports = st.integers(0, 65_535)
names = st.text(_WORD, min_size=7, max_size=40).filter(lambda name: not name.startswith("-"))
"""Names of recent lists; behind a shorter one, iptables leaves the rest of its default, DEFAULT."""
comments = st.text(_PRINTABLE, min_size=1, max_size=255)


def addresses(family: IPFamily) -> st.SearchStrategy[str]:
    """Any but IPv4 addresses inside IPv6 ones, which every library spells in its own way."""
    if family is IPFamily.IPV4:
        return st.ip_addresses(v=4).map(str)
    return st.ip_addresses(v=6).filter(lambda address: int(address) >> 48 != 0).map(str)


@st.composite
def prefixes(draw: st.DrawFn, family: IPFamily) -> Prefix:
    bits = 32 if family is IPFamily.IPV4 else 128
    length = draw(st.one_of(st.just(bits), st.integers(1, bits)))
    network = ipaddress.ip_network((draw(addresses(family)), length), strict=False)
    assume(family is IPFamily.IPV4 or int(network.network_address) >> 48 != 0)
    return Prefix(str(network), draw(st.booleans()))


@st.composite
def interfaces(draw: st.DrawFn, *, wildcards: bool = True) -> Interface:
    name = draw(st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=14))
    return Interface(name + ("+" if wildcards and draw(st.booleans()) else ""), draw(st.booleans()))


@st.composite
def port_matches(draw: st.DrawFn, protocol: Protocol) -> DestinationPort:
    first, last = sorted((draw(ports), draw(ports)))
    return draw(
        st.sampled_from([DestinationPort(protocol, first, last), DestinationPort(protocol, first, first)])
        | st.just(DestinationPort(protocol, 0, 65_535))
    )


def matches(protocol: Protocol | None) -> st.SearchStrategy[Match]:
    states = st.sets(st.sampled_from(list(ConnectionState)), min_size=1)
    every: list[st.SearchStrategy[Match]] = [
        st.builds(Comment, comments),
        st.builds(State, states.map(lambda some: ConnectionState(sum(s.value for s in some))), st.booleans()),
        st.builds(LocalAddress, st.sampled_from(Side)),
        st.builds(Mark, numbers32, numbers32, st.booleans()),
        st.builds(Random, st.integers(0, Random.ONE)),
        st.builds(Turn, st.integers(2, 2**32 - 1)),
        st.builds(RecentCheck, names, st.integers(1, 2**31 - 1)),
        st.builds(RecentSet, names),
    ]
    return st.one_of(*every, port_matches(protocol)) if protocol else st.one_of(*every)


def _targets(family: IPFamily, table: TableName, protocol: Protocol | None) -> st.SearchStrategy[TargetTerm | None]:
    every: list[st.SearchStrategy[TargetTerm | None]] = [
        st.none(),
        st.sampled_from([Accept(), Return()]),
        st.builds(Jump, st.sampled_from(TARGET_CHAINS), st.booleans()),
        st.builds(SetMark, numbers32, numbers32),
    ]
    if table is TableName.FILTER:
        every.append(st.sampled_from([Drop(), Reject()]))
    else:  # where iptables inhibits DROP
        every.append(st.just(MasqueradeSource()))
        if protocol:
            every.append(st.builds(DestinationNat, addresses(family), st.integers(1, 65_535)))
    return st.one_of(every)


@st.composite
def rules(draw: st.DrawFn, family: IPFamily, table: TableName, *, wildcards: bool = True) -> Rule:
    """A rule with at most one match of each kind."""
    protocol = draw(st.none() | st.sampled_from(Protocol))
    return Rule(
        source=draw(st.none() | prefixes(family)),
        destination=draw(st.none() | prefixes(family)),
        in_interface=draw(st.none() | interfaces(wildcards=wildcards)),
        protocol=protocol,
        matches=tuple(draw(st.lists(matches(protocol), max_size=4, unique_by=type))),
        target=draw(_targets(family, table, protocol)),
    )
