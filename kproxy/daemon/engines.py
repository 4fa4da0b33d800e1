"""Which engine writes the rules: iptables, in either variant, or nftables; and what another one has left behind.

Both engines serve the same plans, so a node can go from one to the other at any time: the new one's rules are put in
place first, then the old one's go. For that moment both are there, and the first to see a connection decides; those
that exist already go on as conntrack remembers them.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from kproxy import logs
from kproxy.backends.base import Backend, BackendError
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.compiler import choose_layout, count_endpoints
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.errors import NoIptablesError
from kproxy.backends.iptables.kernel.variant import Variant, detect_variant, open_applier, rules_left_in
from kproxy.backends.iptables.kernel.variant import is_guarded as is_guarded
from kproxy.backends.iptables.kernel.variant import others_who_guard as others_who_guard
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.backends.nftables.kernel import probe
from kproxy.backends.nftables.kernel.errors import NoNftablesError
from kproxy.backends.nftables.rules import names
from kproxy.config import Config, IPTablesVariant, ProxyMode
from kproxy.held.changes import FamilyChanges
from kproxy.held.diff import changes_wanted
from kproxy.held.node import NodeRules
from kproxy.held.read import read_rules
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily

log = logs.get("engines")

_MISSING = (NoIptablesError, NoNftablesError)
"""Errors that say that an engine is not to be had on this machine."""

B = TypeVar("B")

_OTHER = {Variant.LEGACY: Variant.NFT, Variant.NFT: Variant.LEGACY}


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
    for warning in _left_behind(config):
        log.warning(warning)
    if config.mode is ProxyMode.NFTABLES:
        log.info("using nftables")
        return _for_each_family(NftablesBackend)
    variant = _variant(config)
    log.info("using iptables", variant=variant)
    return _for_each_family(partial(_iptables, config, variant))


def guard(config: Config) -> None:
    """Put the rule in force that keeps the network out of 127.0.0.0/8, and nothing else. Raises BackendError."""
    applier = open_applier(IPFamily.IPV4, _variant(config))
    try:
        applier.guard()
    finally:
        applier.close()


def rules_held(config: Config, family: IPFamily, plan: Plan) -> NodeRules:
    """Return the rules that the kernel holds, of all programs; ``plan`` tells by its size how kproxy's are laid out.

    Raises BackendError where they can't be read.
    """
    if config.mode is ProxyMode.NFTABLES:
        return read_rules(family, None)
    forced = None if config.kproxy.layout == "auto" else Layout(config.kproxy.layout)
    return read_rules(family, _variant(config), forced or choose_layout(count_endpoints(plan)))


def changes_due(config: Config, plan: Plan) -> FamilyChanges:
    """Return what a full sync of a plan would change now."""
    forced = None if config.kproxy.layout == "auto" else Layout(config.kproxy.layout)
    return changes_wanted(plan, None if config.mode is ProxyMode.NFTABLES else _variant(config), forced)


def retire_others(config: Config, *, keep_guard: bool) -> None:
    """Remove what kproxy wrote in another mode, now that the rules of this one are complete.

    With ``keep_guard``, all but the rule that keeps the network out of 127.0.0.0/8.
    """
    used = None if config.mode is ProxyMode.NFTABLES else _variant(config)
    try:
        for variant in Variant:
            if used is None and list(rules_left_in(variant)):
                _sweep_iptables(variant, keep_guard=keep_guard)
                log.info("removed the rules of mode iptables", variant=variant)
        if used is not None and _has_nftables(names.TABLE):
            _sweep_nftables()
            log.info("removed the rules of mode nftables")
    except BackendError as error:
        log.warning("the rules of another mode could not be removed; they may win over kproxy's", problem=error)


def cleanup(config: Config, *, keep_guard: bool) -> Sequence[BackendError]:
    """Remove all that is kproxy's, of every engine; return what went wrong.

    With ``keep_guard``, all but the rule that keeps the network out of 127.0.0.0/8.
    A node that lacks an engine has none of its rules, so that is only wrong if it lacks all.
    """
    wanted = config.kproxy.iptables_variant
    variants = list(Variant) if wanted is IPTablesVariant.AUTO else [Variant(wanted)]
    missing: list[BackendError] = []
    problems: list[BackendError] = []
    sweeps: list[Callable[[], None]] = [
        *(partial(_sweep_iptables, variant, keep_guard=keep_guard) for variant in variants),
        _sweep_nftables,
    ]
    for sweep in sweeps:
        try:
            sweep()
        except _MISSING as error:
            missing.append(error)
        except BackendError as error:
            problems.append(error)
    return problems or (missing if len(missing) > len(variants) else [])


def _sweep_iptables(variant: Variant, *, keep_guard: bool) -> None:
    for applier in _for_each_family(lambda family: open_applier(family, variant)):
        try:
            applier.cleanup(keep_guard=keep_guard)
        finally:
            applier.close()


def _sweep_nftables() -> None:
    for backend in _for_each_family(NftablesBackend):
        try:
            backend.cleanup()
        finally:
            backend.close()


def _left_behind(config: Config) -> Iterator[str]:
    """Yield a warning for each place where rules were left that kproxy will not remove by itself.

    Those of another mode it does (see `retire_others`), as soon as this one's are in force.
    """
    if config.mode is not ProxyMode.NFTABLES:
        yield from rules_left_in(_OTHER[_variant(config)])


def has_kube_proxy_table() -> bool:
    """Tell whether kube-proxy has left its table in nftables."""
    return _has_nftables(names.KUBE_PROXY_TABLE)


def _has_nftables(table: str) -> bool:
    return any(table in probe.tables(family) for family in IPFamily)


def _variant(config: Config) -> Variant:
    wanted = config.kproxy.iptables_variant
    return detect_variant() if wanted is IPTablesVariant.AUTO else Variant(wanted)


def _iptables(config: Config, variant: Variant, family: IPFamily) -> Backend:
    layout = None if config.kproxy.layout == "auto" else Layout(config.kproxy.layout)
    return IptablesBackend(family, open_applier(family, variant), layout)


def _for_each_family(opener: Callable[[IPFamily], B]) -> Sequence[B]:
    """Return what ``opener`` makes for the families that it can be made for; raises its error if there is none."""
    backends: list[B] = []
    missing: list[tuple[IPFamily, BackendError]] = []
    for family in IPFamily:
        try:
            backends.append(opener(family))
        except _MISSING as error:
            missing.append((family, error))
    if not backends:
        raise missing[0][1]
    for family, reason in missing:
        log.warning("one address family can't be served on this node", family=family, reason=reason)
    return backends
