"""Whose connections the kernel's rule counters have counted.

Only a connection's first packet comes through the nat table, so the counter of the rule that sends to an endpoint is
the number of connections the endpoint was given. Nothing is added to the rules for it.
"""

from collections.abc import Mapping

from kproxy.backends.base import Counts
from kproxy.backends.iptables.compile.service import ServiceRules
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import (
    Chain,
    ChainCounters,
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
    return Counts(connections, endpoints, rejected, dropped, _invalid(ruleset, counters[TableName.FILTER]))


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
