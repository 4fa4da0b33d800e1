"""Durations, addresses and lists are read as Kubernetes reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.config.values import BindAddress, Duration, nearest, parse_cidr, split_list
from kproxy.wording import SHOWN, quote


@pytest.mark.parametrize(
    ("text", "seconds", "written"),
    [
        ("0", 0, "0s"),
        ("0s", 0, "0s"),
        ("30s", 30, "30s"),
        ("1h", 3600, "1h0m0s"),
        ("1h0m0s", 3600, "1h0m0s"),
        ("2h22m", 8520, "2h22m0s"),
        ("1.5s", 1.5, "1.5s"),
        (".5m", 30, "30s"),
        ("250ms", 0.25, "250ms"),
        ("1500us", 0.0015, "1.5ms"),
        ("7µs", 7e-6, "7µs"),
        ("100ns", 1e-7, "100ns"),
        ("-1m", -60, "-1m0s"),
        ("+90s", 90, "1m30s"),
    ],
)
def test_durations_are_gos(text: str, seconds: float, written: str) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)
    assert str(Duration.parse(text)) == written


@pytest.mark.parametrize("text", ["", "30", "s", "1 s", "1d", "1s1", "--1s", "1e3s", ".s", "9999999999h", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|too long"):
        Duration.parse(text)


@given(st.integers(min_value=-(10**14), max_value=10**14))
def test_a_written_duration_reads_back(nanoseconds: int) -> None:
    duration = Duration(nanoseconds / 1e9)
    assert Duration.parse(str(duration)) == pytest.approx(duration)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:10256", BindAddress("", 10256)),
        ("[::]:10256", BindAddress("", 10256)),
        (":9000", BindAddress("", 9000)),
        ("127.0.0.1", BindAddress("127.0.0.1", 1)),
        ("127.0.0.1:7", BindAddress("127.0.0.1", 7)),
        ("[::1]:7", BindAddress("::1", 7)),
        ("::1", BindAddress("::1", 1)),
        ("[fd00::0:1]", BindAddress("fd00::1", 1)),
        ("0.0.0.0:0", None),
        (":0", None),
    ],
)
def test_bind_addresses(text: str, expected: BindAddress | None) -> None:
    assert BindAddress.parse(text, 1) == expected
    if expected:
        assert BindAddress.parse(str(expected), 1) == expected


@pytest.mark.parametrize("text", ["host:1", "1.2.3.4:x", "1.2.3.4:70000", "1.2.3.4:-1", "[::1:5", "1.2.3:4", "[::1]5x"])
def test_what_is_no_bind_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        BindAddress.parse(text, 1)


def test_cidrs_lose_their_host_bits() -> None:
    assert parse_cidr("10.1.2.3/8") == "10.0.0.0/8"
    assert parse_cidr("FD00:0::1/64") == "fd00::/64"


def test_lists() -> None:
    assert split_list("") == []
    assert split_list("a, b") == ["a", "b"]


def test_nearest_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("clusterCidr", ["clusterCIDR", "mode"]) == "; did you mean clusterCIDR?"
    assert nearest("xyz", ["clusterCIDR", "mode"]) == ""


@given(st.text())
def test_quoted_texts_are_short_and_printable(text: str) -> None:
    assert quote(text).isprintable()
    assert len(quote(text)) <= SHOWN * len("\\U00000000") + len("'…'")
