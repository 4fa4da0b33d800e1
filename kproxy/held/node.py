"""All rules of a node in one address family."""

from collections.abc import Iterator, Sequence

from kproxy.backends.packet import Packet, World
from kproxy.backends.walk import Walk
from kproxy.explain.compare import Line
from kproxy.explain.model import Difference, ElementFound
from kproxy.held.part import OwnPart, Part
from kproxy.plan.model import Plan


class NodeRules:
    """The rules of all programs; implements `kproxy.explain.compare.KernelRules`."""

    def __init__(self, own: OwnPart, others: Sequence[Part] = ()) -> None:
        self._own = own
        self._parts: tuple[Part, ...] = (own, *others)

    def close(self) -> None:
        """See `KernelRules`."""
        for part in self._parts:
            part.close()

    def walk(self, packet: Packet, world: World) -> Walk:
        """See `KernelRules`."""
        walk = Walk([base for part in self._parts for base in part.bases()], packet, world)
        walk.follow()
        return walk

    def walk_otherwise(self, packet: Packet, world: World) -> Walk | None:
        """See `KernelRules`."""
        own, others = list(self._own.bases()), [base for part in self._parts[1:] for base in part.bases()]
        ours = {(base.hook, base.priority) for base in own if base.nat}
        if not any(base.nat and (base.hook, base.priority) in ours for base in others):
            return None
        walk = Walk([*others, *own], packet, world)
        walk.follow()
        return walk

    def line(self, table: str, chain: str, number: int) -> Line:
        """See `KernelRules`."""
        part = self._part(table)
        if part is None:
            return Line("")
        if not number:
            return Line(part.policy(table, chain))
        return (part.lines(table, chain) or ())[number - 1]

    def elements(self) -> Iterator[ElementFound]:
        """See `KernelRules`."""
        for part in self._parts:
            yield from part.elements()

    def is_ours(self, table: str, chain: str) -> bool:
        """See `KernelRules`."""
        part = self._part(table)
        return part is self._own and part.is_ours(table, chain)

    def differences(
        self, plan: Plan, packet: Packet, world: World, passed: Sequence[tuple[str, str, int]]
    ) -> Iterator[Difference]:
        """See `KernelRules`."""
        return self._own.differences(plan, packet, world, passed)

    def _part(self, table: str) -> Part | None:
        return next((part for part in self._parts if part.has(table)), None)
