"""Compiles a Plan into a RuleSet, service by service, and keeps it up to date.

The elements of one service port depend on its own plan and the node's alone, so a change of one service touches its
elements. The chains depend on which ways are in use at all, which hardly ever changes. Compiling from scratch is the
same thing, done for all.

A plan gives each address and port to one service only. While it goes from one to another, and the compiler is told of
the two one after the other, both may have it for a moment; a map can hold but one, so that the other waits.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Set
from typing import TypeVar

from kproxy.backends.nftables.compile.own import SETS as OWN_SETS
from kproxy.backends.nftables.compile.service import NOTHING, Claim, Element, Entry, ServiceRules, compile_service
from kproxy.backends.nftables.compile.shared import draw_chains, draws_of, fixed_chains, shared_sets, way_chains
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change, ElementRecorder, EndpointOf, Recorder
from kproxy.backends.nftables.rules.ruleset import Chain, Data, Key, Numbers, RuleSet, SetSpec
from kproxy.backends.nftables.rules.ways import Draw, Place, Way
from kproxy.plan.model import NodePlan, Plan, ServicePlan
from kproxy.state.model import ServicePortName

H = TypeVar("H", bound=Hashable)


def compile_plan(plan: Plan) -> RuleSet:
    """Compile ``plan`` from scratch."""
    compiler = Compiler(plan.node)
    compiler.update(plan.services)
    return compiler.ruleset


class Compiler:
    """The ruleset of one address family; `update` tells it which plans changed."""

    def __init__(self, node: NodePlan) -> None:
        self._node = node
        self._services: dict[ServicePortName, ServiceRules] = {}
        self._owners: dict[Claim, ServicePortName] = {}
        self._rivals: dict[Claim, set[ServicePortName]] = {}
        """All who want a claim, its owner included, where there are several."""
        self._common: Counter[Element] = Counter()
        self._ways: Counter[Way] = Counter()
        self._draws: set[Draw] = set()
        self._own_places: Counter[Place] = Counter()
        self._sets: dict[str, SetSpec] = {}
        self._elements: dict[str, dict[Key, Data]] = {}
        self._own_endpoints: dict[Numbers, EndpointOf] = {}
        self._chains: dict[str, Chain] = {}
        self._shared_sets: frozenset[str] = frozenset()
        self._shared_chains: frozenset[str] = frozenset()
        self._arrange(Recorder(self._sets), Recorder(self._chains))

    @property
    def ruleset(self) -> RuleSet:
        """The ruleset as it stands; the mappings are live, not copies."""
        return RuleSet(self._sets, self._elements, _COUNTERS, self._chains)

    @property
    def services(self) -> Mapping[ServicePortName, ServiceRules]:
        """What each service port is made of; live, not a copy."""
        return self._services

    @property
    def own_endpoints(self) -> Mapping[Numbers, EndpointOf]:
        """The endpoints of services with chains of their own, by what stands for them; live, not a copy."""
        return self._own_endpoints

    def owner(self, claim: Claim) -> ServicePortName | None:
        """Return whose frontend it is that clients know by ``claim``."""
        return self._owners.get(claim)

    def collect(self) -> None:
        """Forget, at the next update, draws that nobody uses.

        Till then their chains stay. They cost nothing, but to bring one costs a walk through all endpoints (see
        `ways`), which a service that goes from four endpoints to five and back should not cause each time.
        """
        self._draws.clear()

    def set_node(self, node: NodePlan, plans: Mapping[ServicePortName, ServicePlan | None]) -> Change:
        """Take in other settings of the node, with the plans of *all* services under them."""
        self._node = node
        return self.update(plans, rearrange=True)

    def update(self, plans: Mapping[ServicePortName, ServicePlan | None], *, rearrange: bool = False) -> Change:
        """Compile the services given, None for those that are gone; return what became different."""
        sets, chains = Recorder(self._sets), Recorder(self._chains)
        elements, own = ElementRecorder(self._elements), Recorder(self._own_endpoints)
        arrangement = self._arrangement
        for name, plan in plans.items():
            old = self._services.pop(name, NOTHING)
            new = compile_service(plan, self._node, old) if plan is not None else NOTHING
            self._replace(name, old, new, elements)
            for chain in old.chains.keys() | new.chains.keys():
                chains.set(chain, new.chains.get(chain))
            for numbers in old.own_endpoints.keys() | new.own_endpoints.keys():
                endpoint = new.own_endpoints.get(numbers)
                own.set(numbers, EndpointOf(name, endpoint) if endpoint is not None else None)
            if plan is not None:
                self._services[name] = new
        if rearrange or not self._draws or arrangement != self._arrangement:
            self._arrange(sets, chains)
        gone, come = elements.changes()
        return Change(
            after=self.ruleset,
            sets_gone=sets.gone,
            sets_come=sets.come,
            chains_gone=frozenset(chains.gone.keys() - chains.come.keys()),
            chains_come=chains.come,
            elements_gone={name: keys for name, keys in gone.items() if _worth_removing(sets.gone.get(name))},
            elements_come=come,
            own_gone=own.gone,
        )

    # --- elements --------------------------------------------------------------------------------------------------

    def _replace(self, name: ServicePortName, old: ServiceRules, new: ServiceRules, elements: ElementRecorder) -> None:
        for claim in old.entries.keys() - new.entries.keys():
            self._give_up(name, claim, old.entries[claim], elements)
        for claim, entry in new.entries.items():
            before = old.entries.get(claim)
            if before is None:
                self._take(name, claim, entry, elements)
            elif before != entry and self._owners[claim] == name:
                self._swap(before, entry, elements)
        if old.common != new.common:
            for element in new.common:
                self._common[element] += 1
                elements.add(*element)
            for element in old.common:
                self._common[element] -= 1
                if not self._common[element]:
                    del self._common[element]
                    elements.remove(element[0], element[1])

    def _take(self, name: ServicePortName, claim: Claim, entry: Entry, elements: ElementRecorder) -> None:
        owner = self._owners.get(claim)
        if owner is not None:
            self._rivals.setdefault(claim, {owner}).add(name)
            if owner < name:
                return
            self._swap(self._services[owner].entries[claim], entry, elements)
        else:
            self._swap(_NO_ENTRY, entry, elements)
        self._owners[claim] = name

    def _give_up(self, name: ServicePortName, claim: Claim, entry: Entry, elements: ElementRecorder) -> None:
        rivals = self._rivals.get(claim)
        if rivals is None:
            del self._owners[claim]
            self._swap(entry, _NO_ENTRY, elements)
            return
        rivals.discard(name)
        heir = min(rivals)
        if len(rivals) == 1:
            del self._rivals[claim]
        if self._owners[claim] == name:
            self._owners[claim] = heir
            self._swap(entry, self._services[heir].entries[claim], elements)

    def _swap(self, old: Entry, new: Entry, elements: ElementRecorder) -> None:
        """Put one entry's elements into the place of another's."""
        staying = set(old.elements).intersection(new.elements) if old.elements and new.elements else ()
        for element in old.elements:
            if element not in staying:
                elements.remove(element[0], element[1])
        for element in new.elements:
            if element not in staying:
                elements.add(*element)
        _count(self._ways, old.ways, new.ways)
        _count(self._own_places, _some(old.own), _some(new.own))

    # --- sets and chains that services share -----------------------------------------------------------------------

    @property
    def _arrangement(self) -> tuple[Set[Way], Set[Place], bool]:
        """All that the shared sets and chains depend on."""
        return frozenset(self._ways), frozenset(self._own_places), bool(self._own_endpoints)

    def _arrange(self, sets: Recorder[str, SetSpec], chains: Recorder[str, Chain]) -> None:
        """Bring the shared sets and chains in line with the ways in use."""
        wanted_sets = shared_sets(self._ways, self._own_places) | (OWN_SETS if self._own_endpoints else {})
        for name in self._shared_sets | wanted_sets.keys():
            sets.set(name, wanted_sets.get(name))
        self._shared_sets = frozenset(wanted_sets)
        wanted_chains = fixed_chains(self._node) | way_chains(self._node, self._ways, self._own_places)
        # The endpoints' map goes with its last user, and with it all draws from it.
        self._draws = {draw for draw in self._draws if draw.endpoints in wanted_sets} | draws_of(self._ways)
        for draw in self._draws:
            wanted_chains |= draw_chains(draw)
        for name in self._shared_chains | wanted_chains.keys():
            chains.set(name, wanted_chains.get(name))
        self._shared_chains = frozenset(wanted_chains)


_NO_ENTRY = Entry(())
_COUNTERS = frozenset({names.INVALID_DROPS})


def _some(place: Place | None) -> tuple[Place, ...]:
    return (place,) if place is not None else ()


def _count(counter: Counter[H], old: Iterable[H], new: Iterable[H]) -> None:
    """Count uses; what is used no more is forgotten."""
    for used in new:  # one by one: they are few, and the counter's own ways are made for many
        counter[used] += 1
    for used in old:
        counter[used] -= 1
        if not counter[used]:
            del counter[used]


def _worth_removing(its_set: SetSpec | None) -> bool:
    """Tell whether to remove elements one by one, not with their set: only so can be learnt what they have counted."""
    return its_set is None or its_set.counted
