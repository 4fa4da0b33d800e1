"""Reads iptables-save text into a form in which two rule sets can be compared for what they mean.

What counts as equal is laid down in golden/README.md: order of options within a rule and of rules in the lists that
kube-proxy fills in random order carry no meaning, nor do its canary chains and nfacct counters.
"""

import functools
import re
import shlex
from typing import NamedTuple

UNORDERED = {
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-PROXY-FIREWALL",
    *("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}
_CANARIES = {"KUBE-PROXY-CANARY", "KUBE-KUBELET-CANARY"}
_IGNORED_OPTIONS = {"--mask", "--reject-with", "--nfacct-name"}
_FLAGS = {"--random-fully", "--reap", "--set", "--rcheck", "--rsource"}
_HOST = re.compile(r"(.*)/(32|128)$")


class Option(NamedTuple):
    """One option of a rule with its value; options are compared as a set."""

    name: str
    value: str
    inverted: bool


Options = frozenset[Option]
Tables = dict[str, dict[str, list[Options]]]


def parse_tables(text: str) -> Tables:
    """Return rules by table and chain."""
    tables: Tables = {}
    table: dict[str, list[Options]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:], {})
        elif line.startswith(":"):
            chain = line[1:].split()[0]
            if chain not in _CANARIES:
                table.setdefault(chain, [])
        elif line.startswith("-A "):
            if "localhost_nps_accepted_pkts" in line:
                continue
            chain, options = parse_rule(line)
            table.setdefault(chain, []).append(options)
    return tables


@functools.cache
def parse_rule(line: str) -> tuple[str, Options]:
    """Return the chain of an ``-A`` line and its options. Most lines are in many texts."""
    words = shlex.split(line)
    chain = words[1]
    options: set[Option] = set()
    inverted = False
    index = 2
    while index < len(words):
        word = words[index]
        index += 1
        if word == "!":
            inverted = True
            continue
        value = ""
        if word not in _FLAGS:
            value = words[index]
            index += 1
        if word not in _IGNORED_OPTIONS and (word, value) != ("-m", "nfacct"):
            options.add(Option(word, _canonical(word, value), inverted))
        inverted = False
    return chain, frozenset(options)


def _canonical(option: str, value: str) -> str:
    if option in {"-s", "-d"}:
        host = _HOST.match(value)
        return host.group(1) if host else value
    if option == "--probability":
        return f"{float(value):.7f}"
    return value


def comparable(tables: Tables) -> dict[str, dict[str, list[list[str]]]]:
    """Return the tables with everything that has no order sorted; plain data, for readable differences."""
    return {
        name: {chain: _comparable_chain(name, chain, rules) for chain, rules in sorted(table.items())}
        for name, table in sorted(tables.items())
    }


def _comparable_chain(table: str, chain: str, rules: list[Options]) -> list[list[str]]:
    plain = [sorted(f"{'! ' if o.inverted else ''}{o.name} {o.value}" for o in rule) for rule in rules]
    if chain not in UNORDERED:
        return plain
    last = [rule for rule in plain if table == "nat" and chain == "KUBE-SERVICES" and "-j KUBE-NODEPORTS" in rule]
    return sorted(rule for rule in plain if rule not in last) + last
