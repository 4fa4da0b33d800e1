"""Which engine writes the rules: iptables, in either variant, or nftables; and what another one has left behind.

Both engines serve the same plans, so a node can go from one to the other at any time: the new one's rules are put in
place first, then the old one's go. For that moment both are there, and the first to see a connection decides; those
that exist already go on as conntrack remembers them.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kproxy import logs
from kproxy.backends.base import Backend, BackendError, MissingError
from kproxy.config import Config, IPTablesVariant, ProxyMode
from kproxy.daemon.later import forget, later
from kproxy.node import memory
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily

if TYPE_CHECKING:
    from kproxy.backends.iptables import backend as iptables
    from kproxy.backends.iptables.compile import compiler, lists
    from kproxy.backends.iptables.kernel import chains, variant
    from kproxy.backends.iptables.kernel.chains import Variant
    from kproxy.backends.nftables import backend as nftables
    from kproxy.backends.nftables.kernel import presence, probe
    from kproxy.backends.nftables.rules import names
    from kproxy.held import diff, read
    from kproxy.held.changes import FamilyChanges
    from kproxy.held.node import NodeRules
else:  # each as soon as it has something to do, and none before
    iptables = later("kproxy.backends.iptables.backend")
    compiler, lists = (
        later("kproxy.backends.iptables.compile.compiler"),
        later("kproxy.backends.iptables.compile.lists"),
    )
    chains, variant = later("kproxy.backends.iptables.kernel.chains"), later("kproxy.backends.iptables.kernel.variant")
    nftables = later("kproxy.backends.nftables.backend")
    names = later("kproxy.backends.nftables.rules.names")
    presence, probe = later("kproxy.backends.nftables.kernel.presence"), later("kproxy.backends.nftables.kernel.probe")
    diff, read = later("kproxy.held.diff"), later("kproxy.held.read")

log = logs.get("engines")

PACKAGES = {ProxyMode.IPTABLES: "kproxy.backends.iptables", ProxyMode.NFTABLES: "kproxy.backends.nftables"}
"""That of each engine."""
WHO_KNOW_BOTH = ("kproxy.held", "kproxy.daemon.inspect", "kproxy.daemon.pagesources")
"""Who answers questions. All others come to them by `later`."""

B = TypeVar("B")


def forget_all() -> None:
    """Let go of the modules of all engines: another mode may not need them, and a small cluster takes no more."""
    forget(*WHO_KNOW_BOTH, *PACKAGES.values())


def choose_mode(config: Config) -> ProxyMode:
    """Return the mode to run in; ``auto`` is nftables where the kernel and the library can do all that it takes."""
    if config.mode is not ProxyMode.AUTO:
        return config.mode
    reasons = [reason for family in IPFamily if (reason := probe.why_not(family))]
    if reasons:
        log.info("mode auto: taking iptables", reason=reasons[0])
        return ProxyMode.IPTABLES
    return ProxyMode.NFTABLES


def open_backends(config: Config) -> Sequence[Backend]:
    """Return a backend for each address family that this node can serve. ``config`` has the mode chosen.

    Raises BackendError if it can serve none.
    """
    if config.mode is ProxyMode.NFTABLES:
        log.info("using nftables")
        return _for_each_family(partial(nftables.NftablesBackend, count_endpoints=config.kproxy.endpoint_metrics))
    used = _variant(config)
    log.info("using iptables", variant=used)
    return _for_each_family(partial(_iptables, config, used))


def is_guarded() -> bool:
    """Tell whether a rule keeps the network out of 127.0.0.0/8, or may do so, whoever wrote it."""
    return variant.is_guarded()


def others_who_guard() -> Iterator[str]:
    """Yield who else on this node relies on that."""
    yield from chains.others_who_guard()


def guard(config: Config) -> None:
    """Put the rule in force that keeps the network out of 127.0.0.0/8, and nothing else. Raises BackendError."""
    applier = variant.open_applier(IPFamily.IPV4, _variant(config))
    try:
        applier.guard()
    finally:
        applier.close()


def rules_held(config: Config, family: IPFamily, plan: Plan) -> "NodeRules":
    """Return the rules that the kernel holds, of all programs; ``plan`` tells by its size how kproxy's are laid out.

    Raises BackendError where they can't be read.
    """
    if config.mode is ProxyMode.NFTABLES:
        return read.read_rules(family, None)
    layout = _layout(config) or compiler.choose_layout(compiler.count_endpoints(plan))
    return read.read_rules(family, _variant(config), layout)


def changes_due(config: Config, plan: Plan) -> "FamilyChanges":
    """Return what a full sync of a plan would change now."""
    used = None if config.mode is ProxyMode.NFTABLES else _variant(config)
    return diff.changes_wanted(plan, used, None if used is None else _layout(config))


def retire_others(config: Config, *, keep_guard: bool) -> None:
    """Remove what kproxy wrote in another mode, now that the rules of this one are complete.

    With ``keep_guard``, all but the rule that keeps the network out of 127.0.0.0/8.
    """
    used = None if config.mode is ProxyMode.NFTABLES else _variant(config)
    try:
        for left in list(chains.Variant):
            if used is None and list(chains.rules_left_in(left)):
                _sweep_iptables(left, keep_guard=keep_guard)
                log.info("removed the rules of mode iptables", variant=left)
                _forget_engine(ProxyMode.IPTABLES)
        if used is not None and _has_nftables(names.TABLE):
            _sweep_nftables()
            log.info("removed the rules of mode nftables")
            _forget_engine(ProxyMode.NFTABLES)
    except BackendError as error:
        log.warning("the rules of another mode could not be removed; they may win over kproxy's", problem=error)


def _forget_engine(mode: ProxyMode) -> None:
    """Let go of an engine that was there to remove its rules."""
    if not any(name in sys.modules for name in WHO_KNOW_BOTH):  # else somebody has asked already, and is being answered
        forget(PACKAGES[mode])
        memory.let_go()


def cleanup(config: Config, *, keep_guard: bool) -> Sequence[BackendError]:
    """Remove all that is kproxy's, of every engine; return what went wrong.

    With ``keep_guard``, all but the rule that keeps the network out of 127.0.0.0/8.
    A node that lacks an engine has none of its rules, so that is only wrong if it lacks all.
    """
    wanted = config.kproxy.iptables_variant
    variants = list(chains.Variant) if wanted is IPTablesVariant.AUTO else [chains.Variant(wanted)]
    missing: list[BackendError] = []
    problems: list[BackendError] = []
    sweeps: list[Callable[[], None]] = [
        *(partial(_sweep_iptables, one, keep_guard=keep_guard) for one in variants),
        _sweep_nftables,
    ]
    for sweep in sweeps:
        try:
            sweep()
        except MissingError as error:
            missing.append(error)
        except BackendError as error:
            problems.append(error)
    return problems or (missing if len(missing) > len(variants) else [])


def _sweep_iptables(left: "Variant", *, keep_guard: bool) -> None:
    for applier in _for_each_family(lambda family: variant.open_applier(family, left)):
        try:
            applier.cleanup(keep_guard=keep_guard)
        finally:
            applier.close()


def _sweep_nftables() -> None:
    for backend in _for_each_family(nftables.NftablesBackend):
        try:
            backend.cleanup()
        finally:
            backend.close()


def left_behind(config: Config) -> Iterator[str]:
    """Yield a warning for each place where rules were left that kproxy will not remove by itself.

    Those of another mode it does (see `retire_others`), as soon as this one's are in force.
    """
    if config.mode is not ProxyMode.NFTABLES:
        used = _variant(config)
        for other in chains.Variant:
            if other is not used:
                yield from chains.rules_left_in(other)


def has_kube_proxy_table() -> bool:
    """Tell whether kube-proxy has left its table in nftables."""
    return _has_nftables(names.KUBE_PROXY_TABLE)


def _has_nftables(table: str) -> bool:
    return any(table in presence.tables(family) for family in IPFamily)


def _variant(config: Config) -> "Variant":
    wanted = config.kproxy.iptables_variant
    return variant.detect_variant() if wanted is IPTablesVariant.AUTO else chains.Variant(wanted)


def _iptables(config: Config, used: "Variant", family: IPFamily) -> Backend:
    return iptables.IptablesBackend(family, variant.open_applier(family, used), _layout(config))


def _layout(config: Config) -> "lists.Layout | None":
    """Return the layout that is asked for, if any is."""
    return None if config.kproxy.layout == "auto" else lists.Layout(config.kproxy.layout)


def _for_each_family(opener: Callable[[IPFamily], B]) -> Sequence[B]:
    """Return what ``opener`` makes for the families that it can be made for; raises its error if there is none."""
    backends: list[B] = []
    missing: list[tuple[IPFamily, BackendError]] = []
    for family in IPFamily:
        try:
            backends.append(opener(family))
        except MissingError as error:
            missing.append((family, error))
    if not backends:
        raise missing[0][1]
    for family, reason in missing:
        log.warning("one address family can't be served on this node", family=family, reason=reason)
    return backends
