"""Reads off rules which frontends they speak of, in whatever form, and where UDP clients may have been sending to.

Rules outlive the process that wrote them. What a kproxy (or kube-proxy) of before served is in them, and nowhere else,
once a service has been deleted while none was running; its UDP flows would go on to endpoints that are no longer its
own. The chains and matches are kube-proxy's in both layouts, so a look at the rules with a UDP port will do.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import DestinationPort, Rule, TableName
from kproxy.backends.iptables.rules.ruletext import canonical
from kproxy.plan.claims import Claim
from kproxy.plan.model import Destination
from kproxy.state.model import Protocol


def is_list(chain: str) -> bool:
    """Tell whether a chain of nat is one of those, or below one, that lead from frontends to services."""
    return bool(names.list_of(chain)) and names.is_ours(TableName.NAT, chain)


def claim_in_rule(rule: Rule) -> Claim | None:
    """Return the frontend that a rule speaks of, if it is about a single one."""
    ports = [match for match in rule.matches if isinstance(match, DestinationPort) and match.first == match.last]
    if rule.protocol is None or len(ports) != 1:
        return None
    if rule.destination is None:
        return Claim(None, ports[0].first, rule.protocol)
    ip, _, bits = rule.destination.cidr.partition("/")
    exact = bits == ("128" if ":" in ip else "32") and not rule.destination.inverted
    return Claim(ip, ports[0].first, rule.protocol) if exact else None


def claim_in_text(rule: str) -> Claim | None:
    """Return the frontend that a rule speaks of, as iptables-save prints it, if it is about a single one."""
    if " --dport " not in rule:
        return None
    options = {option[0]: option[1] for option in canonical(rule) if len(option) > 1}
    ip, _, bits = options.get("-d", "").partition("/")
    if "!" in options or (ip and bits not in ("32", "128")):
        return None
    try:
        address = str(ipaddress.ip_address(ip)) if ip else None
        return Claim(address, int(options["--dport"]), Protocol(options["-p"]))
    except (KeyError, ValueError):  # a range of ports, another protocol, or what a stranger has put into the chain
        return None


def destinations_in_text(lines: Iterable[str]) -> Iterator[Destination]:
    """Yield the UDP frontends of the nat table, given as iptables-save prints it."""
    for line in lines:
        if " -p udp " in line and is_list(line[3:].partition(" ")[0]) and (claim := claim_in_text(line)) is not None:
            yield Destination(claim.ip, claim.port)
