"""What of a conntrack entry matters here, and addresses in the form the kernel has them.

Addresses are packed bytes in network order: a node can hold a hundred thousand flows, and text would cost more than
everything else that is done with them.
"""

import ipaddress
from typing import NamedTuple

from kproxy.state.model import Protocol

PROTOCOL_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
"""The protocols of services by their numbers in IP."""


class ConntrackError(Exception):
    """Conntrack could not be read or changed; the message says why and what helps. Flows may be stale until a retry."""


class Flow(NamedTuple):
    """One flow of UDP, or unanswered connection of another protocol, in the direction of its first packet."""

    protocol: Protocol
    source: bytes
    """The address of who began it."""
    destination: bytes
    """Address and port that it was sent to, as `socket_address` makes them."""
    answering: bytes
    """Address and port that it goes to in fact, and that answers come from."""
    handle: bytes
    """What names this very entry to the kernel."""

    @property
    def is_connection(self) -> bool:
        """Whether it is of a protocol whose connections have a beginning and an end."""
        return self.protocol is not Protocol.UDP

    @property
    def translated(self) -> bool:
        """Whether somebody's NAT sends it elsewhere than where it was sent to."""
        return self.answering != self.destination


def packed(ip: str) -> bytes:
    """Return an address as bytes."""
    return ipaddress.ip_address(ip).packed


def packed_port(port: int) -> bytes:
    """Return a port as bytes."""
    return port.to_bytes(2, "big")


def socket_address(ip: str, port: int) -> bytes:
    """Return address and port as bytes, one after the other."""
    return packed(ip) + packed_port(port)


def split(address: bytes) -> tuple[str, int]:
    """Take `socket_address` back."""
    return str(ipaddress.ip_address(address[:-2])), int.from_bytes(address[-2:], "big")
