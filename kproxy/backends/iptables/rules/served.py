"""Reads off rules where UDP clients may have been sending to: the frontends of whoever wrote the rules.

Rules outlive the process that wrote them. What a kproxy (or kube-proxy) of before served is in them, and nowhere else,
once a service has been deleted while none was running; its UDP flows would go on to endpoints that are no longer its
own. The chains and matches are kube-proxy's in both layouts, so a look at the rules with a UDP port will do.
"""

import ipaddress
import re
import shlex
from collections.abc import Iterable, Iterator

from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.plan.model import Destination

_LISTS = (names.SERVICES, names.NODE_PORTS)


def is_list(chain: str) -> bool:
    """Tell whether a chain of nat is one of those, or below one, that lead from frontends to services."""
    return chain.startswith(_LISTS) and names.is_ours(TableName.NAT, chain)


_OPTIONS = re.compile(r"-A (\S+) .*-p udp ")


def destinations_in_text(lines: Iterable[str]) -> Iterator[Destination]:
    """Yield the UDP frontends of the nat table, given as iptables-save prints it."""
    for line in lines:
        found = _OPTIONS.match(line)
        if found is None or not is_list(found[1]):
            continue
        words = shlex.split(line)
        options = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-d", "--dport")}
        ip, _, bits = options.get("-d", "").partition("/")
        port = options.get("--dport", "")
        if port.isdecimal() and "!" not in words and (not ip or bits in ("", "32", "128")):
            yield Destination(str(ipaddress.ip_address(ip)) if ip else None, int(port))
