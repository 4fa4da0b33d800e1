"""What conntrack holds for a destination already, and by which interface an address is reached."""

import ipaddress
from collections import Counter
from collections.abc import Sequence

from kproxy.conntrack.flows import ConntrackError, socket_address, split
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.conntrack.looks import Look
from kproxy.explain.model import Flow
from kproxy.state.model import IPFamily, Protocol, endpoint_text

_MOST = 20
"""How many clients are worth reading of."""
_MOST_LOOKED_AT = 20_000


def flows_to(family: IPFamily, protocol: Protocol, ip: str, port: int) -> Sequence[Flow]:
    """Return the connections that were sent to an address and port, by client; those with the most first.

    What can't be read counts as none: conntrack may have nothing to tell before the first connection.
    """
    wanted = socket_address(ip, port)
    found: Counter[tuple[str, str]] = Counter()
    # Some kernels take an IPv6 address in a filter for the one that is not wanted; see `kproxy.conntrack.looks`.
    look = Look((protocol,), None if family is IPFamily.IPV6 else ip, port, answered=True)
    try:
        with KernelConntrack(family) as table:
            for number, flow in enumerate(table.flows(look)):
                if number == _MOST_LOOKED_AT:
                    break
                if flow.destination == wanted:
                    found[str(ipaddress.ip_address(flow.source)), endpoint_text(*split(flow.answering))] += 1
    except ConntrackError:
        return ()
    there = endpoint_text(ip, port)
    return [
        Flow(source=source, destination=there, goes_to=to, number=number)
        for (source, to), number in found.most_common(_MOST)
    ]


def interface_of(ip: str) -> str | None:
    """Return the interface by which packets of an address should come in: the one by which it is reached."""
    family = IPFamily.IPV6 if ":" in ip else IPFamily.IPV4
    try:
        with KernelConntrack(family) as table:
            return table.interface_to(ip)
    except ConntrackError:
        return None
