"""nftables' tables as parts of what the kernel holds: kproxy's own, and those of others."""

from collections.abc import Iterator, Sequence

from kproxy.backends.nftables.compile.compiler import compile_plan
from kproxy.backends.nftables.kernel.rules import HeldTable
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.render import FAMILIES, Renderer
from kproxy.backends.nftables.rules.ruleset import Deliver, Elements, Rule, RuleSet
from kproxy.backends.nftables.rules.walk import walk_through
from kproxy.backends.nftables.rules.ways import ENDPOINT_MAPS
from kproxy.backends.packet import Packet, World
from kproxy.backends.walk import Base, ImpossibleRuleError
from kproxy.explain.compare import Line, added, missing
from kproxy.explain.model import Difference, ElementFound
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily


class NftablesPart:
    """Implements `kproxy.held.part.OwnPart`."""

    def __init__(self, family: IPFamily, tables: Sequence[HeldTable]) -> None:
        self._tables = {table.name: table for table in tables}
        self.own = f"{FAMILIES[family]} {names.TABLE}"
        self._renderer = Renderer(family)

    def close(self) -> None:
        """See `Part`."""
        for table in self._tables.values():
            table.close()

    def bases(self) -> Iterator[Base]:
        """See `Part`."""
        for table in self._tables.values():
            yield from table.bases()

    def has(self, table: str) -> bool:
        """See `Part`."""
        return table in self._tables or table == self.own

    def is_ours(self, table: str, chain: str) -> bool:
        """See `Part`."""
        del chain
        return table == self.own

    def lines(self, table: str, chain: str) -> Sequence[Line] | None:
        """See `Part`."""
        held = self._tables.get(table)
        if held is None or chain not in held.chains:
            return None
        return [self._line(held, chain, number, rule) for number, rule in enumerate(held.rules(chain))]

    def _line(self, held: HeldTable, chain: str, number: int, rule: Rule) -> Line:
        counted = held.counts(chain, number)
        packets, octets = counted if counted is not None else (None, None)
        return Line(held.text(chain, number), packets, octets, rule)

    def elements(self) -> Iterator[ElementFound]:
        """See `Part`."""
        for table in self._tables.values():
            for name, found in table.elements_found():
                yield ElementFound(
                    table=table.name, set=name, element=_text(found.key, found.data), packets=found.packets
                )

    def policy(self, table: str, chain: str) -> str:
        """See `Part`."""
        held = self._tables.get(table)
        return f"policy {'drop' if held is not None and held.chains[chain].drops else 'accept'}"

    # --- what kproxy wants -----------------------------------------------------------------------------------------

    def differences(
        self, plan: Plan, packet: Packet, world: World, passed: Sequence[tuple[str, str, int]]
    ) -> Iterator[Difference]:
        """See `OwnPart`."""
        ruleset = compile_plan(plan)
        try:
            steps = walk_through(ruleset, packet, world).steps
        except ImpossibleRuleError:
            return
        for table, chain, number in passed:
            if table == self.own:
                line = (self.lines(table, chain) or ())[number - 1]
                wanted = ruleset.chains.get(chain)
                if wanted is not None and line.identity not in wanted.rules:
                    yield added(table, chain, number, line, "which kproxy did not write")
        for chain in dict.fromkeys(step.place.chain for step in steps):
            held = self.lines(self.own, chain)
            if held is None:
                yield missing(self.own, chain, None)
                continue
            identities = [line.identity for line in held]
            for rule in ruleset.chains[chain].rules:
                if rule not in identities:
                    yield missing(self.own, chain, self._renderer.rule(rule))
        yield from self._elements(ruleset)

    def _elements(self, ruleset: RuleSet) -> Iterator[Difference]:
        """Name the elements that are missing, and the endpoints that are too many.

        Which number an endpoint has in a map depends on what was there before, so only the whole of them is compared.
        """
        held = self._tables.get(self.own)
        if held is None:
            return
        for name, elements in sorted(ruleset.elements.items()):
            if not held.declare(name, ruleset.sets[name]):
                yield Difference(what=f"the set {name} of table {self.own} is missing", table=self.own, kind="missing")
            elif name in ENDPOINT_MAPS:
                yield from self._endpoints(held, name, elements)
            else:
                for key in elements:
                    if held.find(name, key) is None:
                        yield self._element(name, key, "missing")

    def _endpoints(self, held: HeldTable, name: str, elements: Elements) -> Iterator[Difference]:
        frontends = dict.fromkeys(key[:-1] for key in elements)
        for frontend in frontends:
            wanted = {data for key, data in elements.items() if key[:-1] == frontend}
            size = max(_draws(held), default=len(wanted))
            held_there = [held.find(name, (*frontend, number)) for number in range(max(size, len(wanted)))]
            found = {element[0] for element in held_there if element is not None}
            for data in sorted(wanted - found, key=str):
                yield self._element(name, (*frontend, "n"), "missing", data)
            for data in sorted(found - wanted, key=str):
                yield self._element(name, (*frontend, "n"), "added", data)

    def _element(self, name: str, key: Sequence[object], kind: str, data: Sequence[object] | None = None) -> Difference:
        text = _text(key, data)
        what = "is missing" if kind == "missing" else "was not written by kproxy"
        return Difference(
            what=f"the element {text} of {name} in table {self.own} {what}",
            table=self.own,
            chain=None,
            rule=f"{name} {{ {text} }}",
            kind=kind,
        )


def _text(key: Sequence[object], data: Sequence[object] | None) -> str:
    return " . ".join(map(str, key)) + (f" : {' . '.join(map(str, data))}" if data else "")


def _draws(held: HeldTable) -> Iterator[int]:
    """Yield how many numbers are drawn from, in the chains that were read."""
    for rules in list(held.chains_read().values()):
        yield from (term.draw for rule in rules for term in rule if isinstance(term, Deliver))
