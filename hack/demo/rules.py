"""Finds, among all rules of the nat table, those that a new connection to one Service meets, in that order."""

import re
from collections.abc import Iterator

_COMMENT = re.compile(r' -m comment --comment ("[^"]*"|\S+)')
_REDUNDANT_MATCH = re.compile(r" -m (tcp|udp|sctp)\b")


def explain(saved: str, address: str, port_name: str) -> Iterator[tuple[str, str]]:
    """For each step of a packet, a remark and the rule that takes the step; the rule is empty if there is none.

    `saved` is what iptables-save printed for the nat table, `port_name` is NAMESPACE/SERVICE:PORT.
    """
    lines = [line for line in saved.splitlines() if line.startswith("-A ")]
    ours = [line for line in lines if port_name in line]
    draw = _first(ours, r"^-A KUBE-SVC-.* --probability ")
    drawn = re.escape(draw.rpartition(" ")[2])
    yield (
        f"a packet for {address}: go to the Service's chain",
        _first(ours, rf"^-A KUBE-SERVICES -d {re.escape(address)}/"),
    )
    yield (
        "from outside the cluster? Mark it, so that the answer comes back through this node",
        _first(ours, r"^-A KUBE-SVC-\S+ ! -s .* KUBE-MARK-MASQ$"),
    )
    yield "draw lots for a pod; the last one takes what is left", draw
    yield (
        "does the pod drawn ask itself? Mark the packet, or its answer would never pass this node again",
        _first(ours, rf"^-A {drawn} -s .* KUBE-MARK-MASQ$"),
    )
    yield "put the pod's address in the Service's place", _first(ours, rf"^-A {drawn} .*DNAT ")
    yield (
        "on the way out: a marked packet leaves under the node's own address",
        _first(lines, r"^-A KUBE-POSTROUTING .*MASQUERADE"),
    )


def _first(rules: list[str], pattern: str) -> str:
    return next((_short(rule) for rule in rules if re.search(pattern, rule)), "")


def _short(rule: str) -> str:
    return _REDUNDANT_MATCH.sub("", _COMMENT.sub("", rule))
