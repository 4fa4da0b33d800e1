"""What is asked about: reads a destination as people write it."""

import ipaddress
import re
from typing import NamedTuple

import msgspec

from kproxy.state.addresses import NotAnAddress, parse_ip
from kproxy.state.findings import is_label, is_port
from kproxy.state.model import IPFamily, Protocol
from kproxy.wording import quote

FORMS = "IP:PORT, NAMESPACE/NAME[:PORT], NAME.NAMESPACE.svc[:PORT] or :NODEPORT"
_NAMED = re.compile(r"([^/:]+)/([^/:]+)(?::([^:]*))?")
_DNS = re.compile(r"([^.:/]+)\.([^.:/]+)\.svc(?:\.[-a-z0-9.]+?)?\.?(?::([^:]*))?", re.IGNORECASE)
_SHORT = re.compile(r"([^.:/]+)(?:\.([^.:/]+))?(:[^:/]+)?")


class QuestionError(ValueError):
    """A destination or sender makes no sense; the message says what would."""


class ToAddress(NamedTuple):
    """A destination by address and port."""

    ip: str
    port: int

    @property
    def family(self) -> IPFamily:
        """The family of the address."""
        return IPFamily.IPV6 if ":" in self.ip else IPFamily.IPV4


class ToService(NamedTuple):
    """A destination by the name of a Service, and of its port or its number."""

    namespace: str
    name: str
    port: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ToNodePort(NamedTuple):
    """A port of the node's own address."""

    port: int


Destination = ToAddress | ToService | ToNodePort


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to be explained."""

    text: str
    """The destination as it was written."""
    destination: Destination
    sender: str = "pod"
    """pod, node, outside, or an address in canonical form."""
    protocol: Protocol | None = None
    """None: what the destination's name says, else TCP."""
    family: IPFamily | None = None


def ask(text: str, *, sender: str = "pod", protocol: str = "", family: str = "") -> Question:
    """Return the question that these texts make.

    Raises:
        QuestionError: with one line that says what is wrong and what would be right.
    """
    destination = read_destination(text)
    source = _read_sender(sender)
    if protocol and protocol.lower() not in set(Protocol):
        raise QuestionError(f"--protocol {quote(protocol)}: not one of tcp, udp, sctp")
    if isinstance(destination, ToAddress) and source not in ("pod", "node", "outside"):
        its_family = IPFamily.IPV6 if ":" in source else IPFamily.IPV4
        if its_family is not destination.family:
            raise QuestionError(f"--from {source}: not of the family of {destination.ip}; give an address of the same")
    its_own = _family(destination, source, "")
    if family and its_own is not None and its_own != family:
        raise QuestionError(f"--family {family}: the address that is given is of the other; leave --family out")
    return Question(
        text=text,
        destination=destination,
        sender=source,
        protocol=Protocol(protocol.lower()) if protocol else None,
        family=_family(destination, source, family),
    )


def _family(destination: Destination, source: str, said: str) -> IPFamily | None:
    if isinstance(destination, ToAddress):
        return destination.family
    if source not in ("pod", "node", "outside"):
        return IPFamily.IPV6 if ":" in source else IPFamily.IPV4
    return IPFamily(said) if said else None


def read_destination(text: str) -> Destination:
    """Return the destination that a text names. Raises QuestionError."""
    if text.startswith(":"):
        return ToNodePort(_port(text[1:], text))
    by_dns = _DNS.fullmatch(text)
    if by_dns:
        name, namespace, port = by_dns.groups()
        return _service(namespace.lower(), name.lower(), port, text)
    named = _NAMED.fullmatch(text)
    if named:
        namespace, name, port = named.groups()
        return _service(namespace, name, port, text)
    return _address(text)


def _service(namespace: str, name: str, port: str | None, text: str) -> ToService:
    for part in (namespace, name):
        if not is_label(part):
            raise QuestionError(
                f"{quote(text)}: {quote(part)} is no name that Kubernetes takes: lower-case letters, digits and dashes"
            )
    if port is not None and not port:
        raise QuestionError(f"{quote(text)}: a port's name or number belongs after the colon")
    return ToService(namespace, name, port or "")


def _address(text: str) -> ToAddress:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:  # an IPv6 address without brackets: its last part is no port
        host, colon = text, ""
    try:
        ip = parse_ip(host if colon else text.strip("[]"))[1]
    except NotAnAddress:
        raise QuestionError(f"{quote(text)} is no destination: write {FORMS}{_meant(text)}") from None
    if not colon:
        shown = f"[{ip}]" if ":" in ip else ip
        raise QuestionError(f"{quote(text)}: a port is missing, as in {shown}:80")
    return ToAddress(ip, _port(port, text))


def _meant(text: str) -> str:
    """Return what somebody may have meant who left out the namespace, or what marks a name as that of a Service."""
    short = _SHORT.fullmatch(text)
    if not short or not all(is_label(part) for part in short.groups()[:2] if part):
        return ""
    name, namespace, port = short[1], short[2] or "NAMESPACE", short[3] or ""
    return f"; did you mean {namespace}/{name}{port}?"


def _port(port: str, text: str) -> int:
    if not (port.isascii() and port.isdecimal() and is_port(int(port))):
        raise QuestionError(f"{quote(text)}: {quote(port)} is no port, a number from 1 to 65535")
    return int(port)


def _read_sender(said: str) -> str:
    if said in ("pod", "node", "outside"):
        return said
    try:
        return str(ipaddress.ip_address(said))
    except ValueError:
        raise QuestionError(f"--from {quote(said)}: not pod, node, outside or an IP address") from None
