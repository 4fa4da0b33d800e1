"""What does not fit the kernel's structures is refused by name, never cut off or wrapped around."""

import pytest

from kproxy.backends.iptables.kernel.legacy.encode import Encoder
from kproxy.backends.iptables.kernel.legacy.terms import UnencodableError
from kproxy.backends.iptables.rules.ruleset import (
    Comment,
    DestinationNat,
    DestinationPort,
    Interface,
    Jump,
    Mark,
    Match,
    Prefix,
    Random,
    RecentCheck,
    RecentSet,
    Rule,
    SetMark,
    TargetTerm,
)
from kproxy.state.model import IPFamily, Protocol

TCP, UDP, SCTP = Protocol


@pytest.mark.parametrize("family", IPFamily)
@pytest.mark.parametrize(
    ("match", "said"),
    [
        (Comment("x" * 256), "comment"),
        (Comment("ä" * 128), "at most 255 bytes"),
        (Comment("x\0y"), "no NUL"),
        (DestinationPort(TCP, -1, 80), "ports -1 to 80"),
        (DestinationPort(UDP, 80, 65_536), "ports 80 to 65536"),
        (DestinationPort(SCTP, 1, 65_536), "not within 0 to 65535"),
        (Mark(2**32, 1), "mark 4294967296/1"),
        (Mark(0, -1), "not 32-bit numbers"),
        (Random(-1), "random threshold -1"),
        (Random(Random.ONE + 1), "not within 0 to 2147483648"),
        (RecentCheck("x" * 200, 1), "at most 199 bytes"),
        (RecentCheck("x", 2**32), "4294967296 seconds"),
        (RecentSet("x\0y"), "no NUL"),
    ],
)
def test_matches_that_do_not_fit(family: IPFamily, match: Match, said: str) -> None:
    with pytest.raises(UnencodableError, match=said):
        Encoder(family).encode(Rule(target=None, matches=(match,)))


@pytest.mark.parametrize("family", IPFamily)
@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Jump("K" * 29), "chain name"),
        (Jump("KUBE\0SVC"), "no NUL"),
        (SetMark(0, 2**32), "mark 0/4294967296"),
        (DestinationNat("10.0.0.1", 65_536), "NAT to 10.0.0.1 port 65536"),
        (DestinationNat("fd00::1", -1), "NAT to fd00::1 port -1"),
        (DestinationNat("localhost", 80), "no such address"),
    ],
)
def test_targets_that_do_not_fit(family: IPFamily, target: TargetTerm, said: str) -> None:
    with pytest.raises(UnencodableError, match=said):
        Encoder(family).encode(Rule(target=target))


@pytest.mark.parametrize(
    ("family", "cidr"),
    [
        (IPFamily.IPV4, "10.0.0.1"),
        (IPFamily.IPV4, "10.0.0.0/33"),
        (IPFamily.IPV4, "fd00::/64"),
        (IPFamily.IPV4, "10.0.0.0/x"),
        (IPFamily.IPV6, "10.0.0.0/8"),
        (IPFamily.IPV6, "fd00::/129"),
    ],
)
def test_prefixes_that_are_none(family: IPFamily, cidr: str) -> None:
    for rule in (Rule(target=None, source=Prefix(cidr)), Rule(target=None, destination=Prefix(cidr))):
        with pytest.raises(UnencodableError, match="not ADDRESS/LENGTH"):
            Encoder(family).encode(rule)


@pytest.mark.parametrize("family", IPFamily)
def test_interface_names_that_are_too_long(family: IPFamily) -> None:
    with pytest.raises(UnencodableError, match="at most 15 bytes"):
        Encoder(family).encode(Rule(target=None, in_interface=Interface("x" * 16)))


@pytest.mark.parametrize("family", IPFamily)
def test_the_longest_that_fit_are_kept_whole(family: IPFamily) -> None:
    rule = Rule(
        in_interface=Interface("i" * 15),
        matches=(Comment("c" * 255), RecentSet("r" * 199)),
        target=Jump("K" * 28),
    )
    entry = Encoder(family).encode(rule)
    for text in (b"i" * 15 + b"\0", b"c" * 255 + b"\0", b"r" * 199 + b"\0", b"K" * 28 + b"\0"):
        assert text in entry
