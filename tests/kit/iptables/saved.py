"""Rules as iptables-save printed them, to walk through: recordings of kube-proxy, and what kproxy renders."""

import functools
from collections.abc import Mapping, Sequence, Set

from kproxy.backends.iptables.rules.held import HeldRule, HeldTable
from kproxy.backends.iptables.rules.parse import parse_rule
from kproxy.backends.iptables.rules.walk import bases
from kproxy.backends.packet import Packet, World
from kproxy.backends.walk import Walk
from kproxy.state.model import IPFamily

_parsed = functools.cache(parse_rule)
"""Most lines are in many recordings."""


class SavedTable(HeldTable):
    """One table of a text."""

    def __init__(self, name: str, family: IPFamily, chains: Mapping[str, Sequence[HeldRule]], drops: Set[str]) -> None:
        super().__init__(name, family)
        self._chains = chains
        self._drops = drops

    def read(self, chain: str) -> Sequence[HeldRule] | None:
        return self._chains.get(chain)

    def chain_names(self) -> Set[str]:
        return self._chains.keys()

    def policy_drops(self, chain: str) -> bool:
        return chain in self._drops


def saved_tables(text: str, family: IPFamily) -> list[SavedTable]:
    """Read all tables of a text."""
    found: list[SavedTable] = []
    chains: dict[str, list[HeldRule]] = {}
    drops: set[str] = set()
    for line in text.splitlines():
        if line.startswith("*"):
            chains, drops = {}, set()
            found.append(SavedTable(line[1:], family, chains, drops))
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[name] = []
            drops |= {name} if policy == "DROP" else set()
        elif line.startswith("-A "):
            chains[line.split()[1]].append(_parsed(line, family))
    return found


def walk_saved(tables: Sequence[SavedTable], packet: Packet, world: World) -> Walk:
    """Send a packet through tables."""
    walk = Walk([base for table in tables for base in bases(table, table.kind)], packet, world)
    walk.follow()
    return walk
