"""Addresses and ports to listen at: whether this machine has them, and has them to give."""

import socket

from kproxy.ingress.plan.model import Bind


def bind_line(bind: Bind) -> str:
    """Return what HAProxy's configuration says of a bind, as far as the socket goes."""
    return f"bind {bind.address or '0.0.0.0'}:{bind.port}"  # noqa: S104


def why_not_bind(bind: Bind, *, ipv6: bool) -> str | None:
    """Try to listen where HAProxy is going to, beside whom it may be listening already."""
    places = [(socket.AF_INET6 if ":" in bind.address else socket.AF_INET, bind.address)]
    if not bind.address and ipv6:
        places.append((socket.AF_INET6, ""))
    for family, address in places:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                tried.bind((address, bind.port))
            except OSError as error:
                return f"cannot listen at {bind}: {error.strerror}"
    return None
