"""Addresses in whatever spelling come out in one, whichever way they are parsed."""

import contextlib
import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kproxy.state.addresses import NotAnAddress, parse_ip
from kproxy.state.model import IPFamily

OCTETS = st.one_of(st.integers(0, 300).map(str), st.sampled_from(["00", "010", "0x1", "+1", " 1", "1 ", "", "\u0661"]))
DOTTED = st.lists(OCTETS, min_size=3, max_size=5).map(".".join)


@given(DOTTED)
@example("10.0.0.1\n")
@example("010.0.0.1")
def test_what_looks_like_ipv4_is_canonical_or_no_address(text: str) -> None:
    with contextlib.suppress(NotAnAddress):
        family, canonical = parse_ip(text)
        assert family is IPFamily.IPV4
        assert canonical == str(ipaddress.IPv4Address(canonical))
        assert [int(octet) for octet in text.split(".")] == [*ipaddress.IPv4Address(canonical).packed]


IPS = st.ip_addresses().map(lambda ip: getattr(ip, "ipv4_mapped", None) or ip)
"""IPv4 addresses inside IPv6 ones are told as themselves."""


@given(IPS.filter(lambda ip: not (ip.is_multicast or ip.is_unspecified)))
@example(ipaddress.IPv4Address("127.0.0.1"))
def test_canonical_addresses_stay_as_they_are(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    family = IPFamily.IPV4 if ip.version == 4 else IPFamily.IPV6
    for text in (str(ip), f"::ffff:{ip}") if ip.version == 4 else (str(ip),):
        assert parse_ip(text) == (family, str(ip))


@pytest.mark.parametrize(
    "text", ["224.0.0.0", "239.1.2.3", "0.0.0.0", "::", "ff02::1", "::ffff:224.0.0.1", "::ffff:0:0"]
)
def test_what_no_packet_can_go_to_is_refused(text: str) -> None:
    with pytest.raises(NotAnAddress, match="cannot be a destination"):
        parse_ip(text)
