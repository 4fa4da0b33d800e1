"""Finds out in what the kernel's table differs from the wanted ruleset, and what to do about it."""

from collections.abc import Mapping

import msgspec

from kproxy.backends.nftables.kernel.netlink import Reader
from kproxy.backends.nftables.kernel.table import KernelTable, SetShape, shape_of
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change
from kproxy.backends.nftables.rules.ruleset import Chain, Data, Hook, Key, RuleSet, SetSpec
from kproxy.state.model import IPFamily


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """How the kernel's table differs."""

    repairable: bool
    """Whether ``change`` will do; else the table must be replaced as a whole."""
    change: Change
    places: frozenset[str] = frozenset()
    """Chains that are missing or too many, and sets that are, or differ."""


def compare(kernel: KernelTable, ruleset: RuleSet, family: IPFamily) -> Differences | None:
    """Compare; None if there is no table, or one without hooks, which no packet meets."""
    if names.TABLE not in kernel.tables():
        return None
    chains = kernel.chains()
    if not any(chains.values()):
        return None
    sets = kernel.sets()
    if _hooks(chains) != {name: chain.hook for name, chain in ruleset.chains.items() if chain.hook}:
        return Differences(repairable=False, change=Change(after=ruleset))
    if any(shape_of(spec, family) != sets.get(name, shape_of(spec, family)) for name, spec in ruleset.sets.items()):
        return Differences(repairable=False, change=Change(after=ruleset))
    return _differences(kernel, ruleset, chains, sets)


def _hooks(chains: Mapping[str, Hook | None]) -> dict[str, Hook]:
    return {name: hook for name, hook in chains.items() if hook is not None}


def _differences(
    kernel: KernelTable, ruleset: RuleSet, chains: Mapping[str, Hook | None], sets: Mapping[str, SetShape]
) -> Differences:
    """Return what is to be done.

    All chains are written anew, for what libnftables makes of a rule is not the same in all versions, and cannot be
    compared. That costs less than reading them.
    """
    gone: dict[str, dict[Key, Data]] = {}
    come: dict[str, dict[Key, Data]] = {}
    for name, spec in ruleset.sets.items():
        if spec.remembers:
            continue
        wanted = ruleset.elements.get(name, {})
        missing = dict(wanted)
        for found in kernel.elements(name, spec) if name in sets else ():
            if found.key in wanted and wanted[found.key] == found.data:
                missing.pop(found.key, None)
            else:
                gone.setdefault(name, {})[found.key] = found.data
        if missing:
            come[name] = missing
    counters = kernel.counters().keys()
    change = Change(
        after=ruleset,
        sets_gone={name: _some_set(shape) for name, shape in sets.items() if name not in ruleset.sets},
        sets_come={name: spec for name, spec in ruleset.sets.items() if name not in sets},
        counters_gone=counters - ruleset.counters,
        counters_come=frozenset(ruleset.counters - counters),
        chains_gone=frozenset(chains.keys() - ruleset.chains.keys()),
        chains_come=ruleset.chains,
        elements_gone=gone,
        elements_come=come,
    )
    missing_chains = ruleset.chains.keys() - chains.keys()
    places = msgspec.structs.replace(change, chains_come=dict.fromkeys(missing_chains, _EMPTY)).touched
    return Differences(repairable=True, change=change, places=places)


def elements_by_set(reader: Reader, ruleset: RuleSet, family: IPFamily) -> dict[str, dict[Key, Data]]:
    """Return what the kernel holds in the sets that a ruleset has, as far as they are there and of the same shape."""
    kernel = KernelTable(family, reader)
    sets = kernel.sets()
    return {
        name: {found.key: found.data for found in kernel.elements(name, spec)}
        for name, spec in ruleset.sets.items()
        if not spec.remembers and sets.get(name) == shape_of(spec, family)
    }


_EMPTY = Chain(())


def _some_set(shape: SetShape) -> SetSpec:
    """Return as much of a strange set's declaration as it takes to remove it."""
    return SetSpec(columns=(), verdicts=shape.is_map)
