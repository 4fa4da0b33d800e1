"""The tables of the nft variant as the kernel holds them, for a walk: by iptables-nft's own listing, chain by chain."""

from collections.abc import Iterator, Sequence, Set

from kproxy.backends.iptables.kernel.nft.applier import NftTools
from kproxy.backends.iptables.rules.held import HeldRule, HeldTable
from kproxy.backends.iptables.rules.parse import parse_rule
from kproxy.state.model import IPFamily


def held_tables(family: IPFamily, names: Sequence[str]) -> Iterator[HeldTable]:
    """Yield tables of these names, which must exist. Raises NoIptablesError where there are no tools to read them."""
    tools = NftTools(family)
    for name in names:
        yield NftTable(name, family, tools)


class NftTable(HeldTable):
    """One table."""

    def __init__(self, name: str, family: IPFamily, tools: NftTools) -> None:
        super().__init__(name, family)
        self._table = name
        self._tools = tools
        self._drops: dict[str, bool] = {}

    def read(self, chain: str) -> Sequence[HeldRule] | None:
        """See `HeldTable`."""
        lines = self._tools.listing(self._table, chain)
        if not lines:
            return None
        self._drops[chain] = lines[0].startswith(f"-P {chain} DROP")
        return [parse_rule(line, self.family) for line in lines if line.startswith("-A ")]

    def chain_names(self) -> Set[str]:
        """See `HeldTable`; reads the whole table, as then all of it will be asked for."""
        found: dict[str, list[HeldRule]] = {}
        for line in self._tools.save(self._table):
            if line.startswith(":"):
                name, _, rest = line[1:].partition(" ")
                found[name] = []
                self._drops[name] = rest.startswith("DROP")
            elif line.startswith("-A "):
                found[line[3:].partition(" ")[0]].append(parse_rule(line, self.family))
        self._held.update(found)
        return found.keys()

    def policy_drops(self, chain: str) -> bool:
        """See `HeldTable`."""
        if chain not in self._drops:
            self.held(chain)
        return self._drops.get(chain, False)
