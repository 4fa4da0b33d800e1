"""The kinds of value that Kubernetes' configuration files and flags are made of, read as Kubernetes reads them.

Every ``parse`` raises ValueError with a text that completes "FIELD: …" and says what would be right.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from kproxy.state.model import IPFamily
from kproxy.wording import quote

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "μs": 1_000,  # U+03BC, the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION = re.compile(r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_MAX_DURATION_NS = 2**63 - 1


class Duration(float):
    """A span of time in seconds, written as Go writes it: ``1h30m0s``, ``250ms``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what Go's time.ParseDuration reads: numbers with units, such as ``1h30m`` or ``1.5s``; also ``0``."""
        if text in ("0", "+0", "-0"):
            return cls(0)
        if not _DURATION.fullmatch(text):
            raise ValueError(f"{quote(text)} is not a duration; write numbers with units, such as 30s, 1h30m or 250ms")
        nanoseconds = sum(float(number) * _UNITS_NS[unit] for number, unit in _DURATION_PART.findall(text))
        if nanoseconds > _MAX_DURATION_NS:
            raise ValueError(f"{quote(text)} is too long; durations end at about 290 years")
        return cls((-nanoseconds if text.startswith("-") else nanoseconds) / 1e9)

    def __str__(self) -> str:
        """The spelling of Go's Duration.String."""
        nanoseconds = round(abs(self) * 1e9)
        sign = "-" if self < 0 else ""
        if nanoseconds < 1_000_000_000:
            for unit in ("ms", "µs", "ns"):
                if nanoseconds >= _UNITS_NS[unit]:
                    return f"{sign}{_decimal(nanoseconds, _UNITS_NS[unit])}{unit}"
            return "0s"
        minutes, rest = divmod(nanoseconds, _UNITS_NS["m"])
        hours, minutes = divmod(minutes, 60)
        seconds = f"{_decimal(rest, _UNITS_NS['s'])}s"
        if hours:
            return f"{sign}{hours}h{minutes}m{seconds}"
        return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


class FlushFrequency(Duration):
    """The one duration that may also be given as a bare number, of nanoseconds (logging.flushFrequency)."""


class Quantity(str):
    """An amount such as ``0`` or ``64Mi``; kproxy only passes it on."""

    __slots__ = ()


def _decimal(value: int, unit: int) -> str:
    """``value / unit`` without trailing zeros."""
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{str(rest).rjust(digits, '0').rstrip('0')}"


class BindAddress(NamedTuple):
    """Where a server listens. An empty host means every address of both families."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int) -> Self | None:
        """Read ``1.2.3.4:10256``, ``[::]:10256``, ``:10256`` or an address alone; None where the port is 0: disabled.

        The wildcards 0.0.0.0 and :: both become the empty host: Go's listeners, and so kube-proxy's, serve both
        families on either.
        """
        host, port_text = _split_port(text)
        try:
            address = ipaddress.ip_address(host) if host else None
        except ValueError:
            raise ValueError(
                f"{quote(text)} has no valid IP address; write it as 0.0.0.0:{default_port} or [::]:{default_port}"
            ) from None
        port = parse_port(port_text, what=text) if port_text else default_port
        if port == 0:
            return None
        return cls("" if address is None or address.is_unspecified else str(address), port)

    def __str__(self) -> str:
        host = self.host or "[::]"
        return f"[{host}]:{self.port}" if ":" in host and not host.startswith("[") else f"{host}:{self.port}"


def with_port(text: str, port: int) -> str:
    """Return an address with this port if it names none; port 0 means no server, whatever the address."""
    if port == 0:
        return ":0"
    host, named = _split_port(text)
    if named or not text:
        return text
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split_port(text: str) -> tuple[str, str]:
    """Take ``host:port`` apart; the port is empty where there is none (a bare IPv6 address has colons of its own)."""
    bracketed = re.fullmatch(r"\[([^][]*)](?::(.*))?", text, re.DOTALL)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, ""


def parse_port(text: str, what: str | None = None) -> int:
    """Read a port number, 0 to 65535."""
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise ValueError(f"{quote(what or text)} has no valid port; ports are 0 to 65535")


def cidr_family(cidr: str) -> IPFamily:
    """Return the family of a range that `parse_cidr` has accepted."""
    return IPFamily.IPV6 if ":" in cidr else IPFamily.IPV4


def parse_cidr(text: str) -> str:
    """Read a range such as 10.0.0.0/8 and return it in canonical form, host bits cleared."""
    if "/" not in text:
        raise ValueError(f"{quote(text)} is not a CIDR; write it with its prefix length, such as 10.0.0.0/8")
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{quote(text)} is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56") from None


def split_list(text: str) -> list[str]:
    """Take a comma-separated list apart; blanks around the commas and an empty text mean nothing."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` where one of ``known`` is close to ``name``, else an empty text."""
    import difflib  # for those alone who have mistyped something

    by_lower = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[match[0]]}?" if match else ""
