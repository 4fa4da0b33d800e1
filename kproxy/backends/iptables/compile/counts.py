"""Whose connections the kernel's rule counters have counted.

Only a connection's first packet comes through the nat table, so the counter of the rule that sends to an endpoint is
the number of connections the endpoint was given. Nothing is added to the rules for it.
"""

from collections.abc import Mapping

from kproxy.backends.base import Counts, LocalhostCounts
from kproxy.backends.iptables.compile.node import LOCALHOST_ASKED, LOCALHOST_LEFT
from kproxy.backends.iptables.compile.service import ServiceRules
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import (
    Chain,
    ChainCounters,
    Comment,
    ConnectionState,
    DestinationNat,
    Drop,
    Reject,
    Rule,
    RuleSet,
    State,
    TableName,
)
from kproxy.state.model import ServicePortName, endpoint_text


def count_connections(
    services: Mapping[ServicePortName, ServiceRules],
    ruleset: RuleSet,
    counters: Mapping[TableName, ChainCounters],
) -> Counts:
    """Return what ``counters``, read from the kernel, say about ``services``, of which ``ruleset`` is made."""
    connections: dict[ServicePortName, int] = {}
    endpoints: dict[tuple[ServicePortName, str], int] = {}
    for name, rules in services.items():
        total = 0
        for chain, chain_rules in rules.chains.items():
            for rule, packets in _paired(chain_rules, counters[TableName.NAT], chain):
                target = rule.target
                if isinstance(target, DestinationNat):
                    key = (name, endpoint_text(target.ip, target.port))
                    endpoints[key] = endpoints.get(key, 0) + packets
                    total += packets
        connections[name] = total
    refusals = {
        entry.rule: name
        for name, rules in services.items()
        for entry in rules.entries
        if isinstance(entry.rule.target, Reject | Drop)
    }
    rejected, dropped = dict.fromkeys(connections, 0), dict.fromkeys(connections, 0)
    for chain, chain_rules in ruleset.filter.chains.items() if refusals else ():
        for rule, packets in _paired(chain_rules, counters[TableName.FILTER], chain):
            owner = refusals.get(rule)
            if owner is not None:
                (rejected if isinstance(rule.target, Reject) else dropped)[owner] += packets
    invalid, localhost = _invalid(ruleset, counters[TableName.FILTER]), _localhost(ruleset, counters[TableName.NAT])
    return Counts(connections, endpoints, rejected, dropped, invalid, localhost)


def _paired(rules: Chain, counters: ChainCounters, chain: str) -> list[tuple[Rule, int]]:
    """Return each rule with its packets; nothing where the kernel's chain isn't ours just now."""
    found = counters.get(chain, [])
    return (
        [(rule, packets) for rule, (packets, _) in zip(rules, found, strict=True)] if len(found) == len(rules) else []
    )


def _invalid(ruleset: RuleSet, counters: ChainCounters) -> int | None:
    """Return the packets dropped because conntrack could not place them; None where no rule drops any."""
    invalid = State(ConnectionState.INVALID)
    pairs = _paired(ruleset.filter.chains[names.FORWARD], counters, names.FORWARD)
    return next((packets for rule, packets in pairs if invalid in rule.matches), None)


def _localhost(ruleset: RuleSet, counters: ChainCounters) -> LocalhostCounts | None:
    """Return what came to the node ports by localhost and what they left; None where that is not counted just now."""
    asked = _counted(ruleset, counters, names.SERVICES, LOCALHOST_ASKED)
    left = _counted(ruleset, counters, names.NODE_PORTS, LOCALHOST_LEFT)
    return LocalhostCounts(asked, left) if asked is not None and left is not None else None


def _counted(ruleset: RuleSet, counters: ChainCounters, chain: str, what: str) -> int | None:
    """Add up what the rules have counted that only count, for this purpose; they stand at the end of the chain."""
    rules, found = ruleset.nat.chains[chain], counters.get(chain, [])
    if len(rules) != len(found):
        return None
    comment, total = Comment(what), None
    for rule, (packets, _) in zip(reversed(rules), reversed(found), strict=True):
        if rule.target is None and comment in rule.matches:
            total = (total or 0) + packets
        elif total is not None or (rule.protocol is not None):
            break
    return total
