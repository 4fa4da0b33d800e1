"""Hypothesis strategies for rules: every match and target kproxy has, with any value that the kernel takes.

Each is made once. Hypothesis looks a new one through from top to bottom before it draws from it the first time, which
takes ten times as long as to draw.
"""

import ipaddress
import string
from functools import cache

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


@cache
def addresses(family: IPFamily) -> st.SearchStrategy[str]:
    """Any but IPv4 addresses inside IPv6 ones, which every library spells in its own way."""
    if family is IPFamily.IPV4:
        return st.ip_addresses(v=4).map(str)
    return st.ip_addresses(v=6).filter(lambda address: int(address) >> 48 != 0).map(str)


@cache
def prefixes(family: IPFamily) -> st.SearchStrategy[Prefix]:
    bits = 32 if family is IPFamily.IPV4 else 128
    lengths = st.one_of(st.just(bits), st.integers(1, bits))
    return st.builds(_prefix, addresses(family), lengths, st.booleans())


def _prefix(address: str, length: int, inverted: bool) -> Prefix:
    network = ipaddress.ip_network((address, length), strict=False)
    assume(network.version == 4 or int(network.network_address) >> 48 != 0)
    return Prefix(str(network), inverted)


@cache
def interfaces(*, wildcards: bool = True) -> st.SearchStrategy[Interface]:
    letters = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=14)
    names = st.builds(str.__add__, letters, st.sampled_from(("", "+"))) if wildcards else letters
    return st.builds(Interface, names, st.booleans())


@cache
def port_matches(protocol: Protocol) -> st.SearchStrategy[DestinationPort]:
    pairs = st.tuples(ports, ports).map(sorted)
    return st.one_of(
        pairs.map(lambda pair: DestinationPort(protocol, pair[0], pair[1])),
        ports.map(lambda port: DestinationPort(protocol, port, port)),
        st.just(DestinationPort(protocol, 0, 65_535)),
    )


@cache
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


@cache
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


@cache
def rules(family: IPFamily, table: TableName, *, wildcards: bool = True) -> st.SearchStrategy[Rule]:
    """A rule with at most one match of each kind."""
    return (st.none() | st.sampled_from(Protocol)).flatmap(
        cache(
            lambda protocol: st.builds(
                Rule,
                source=st.none() | prefixes(family),
                destination=st.none() | prefixes(family),
                in_interface=st.none() | interfaces(wildcards=wildcards),
                protocol=st.just(protocol),
                matches=st.lists(matches(protocol), max_size=4, unique_by=type).map(tuple),
                target=_targets(family, table, protocol),
            )
        )
    )
