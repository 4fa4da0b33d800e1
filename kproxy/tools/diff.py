"""``kproxy diff``: what would change if kproxy synced now, as a diff that a person reads."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.variant import Variant, detect_variant
from kproxy.config import Config, IPTablesVariant, ProxyMode
from kproxy.explain.protocol import DiffQuestion
from kproxy.explain.view import View
from kproxy.held.changes import Change, Changes, FamilyChanges
from kproxy.held.diff import changes_wanted
from kproxy.state.model import IPFamily
from kproxy.tools.ask import ask_daemon
from kproxy.tools.screen import as_json, harmless, one_line, paint, strong

SAME, DIFFERENT, TROUBLE = 0, 1, 2


def changes_by_daemon(config: Config) -> Changes:
    """Ask the daemon on this node. Raises NoAnswerError."""
    return msgspec.json.decode(ask_daemon(config, DiffQuestion()), type=Changes)


def changes_for(views: Sequence[View], config: Config) -> Changes:
    """Compare what objects in files want with what this node's kernel holds."""
    in_nftables = config.mode is ProxyMode.NFTABLES
    wanted = config.kproxy.iptables_variant
    variant = detect_variant() if wanted is IPTablesVariant.AUTO else Variant(wanted)
    layout = None if config.kproxy.layout == "auto" else Layout(config.kproxy.layout)
    found = [changes_wanted(view.plan, None if in_nftables else variant, layout) for view in views]
    return Changes(mode="nftables" if in_nftables else "iptables", families=tuple(found))


def of_family(changes: Changes, family: str | None) -> Changes:
    """Leave out the other family, if one is asked for."""
    if family is None:
        return changes
    label = IPFamily(family).metric_label
    return msgspec.structs.replace(changes, families=tuple(one for one in changes.families if one.family == label))


def told(changes: Changes, *, json: bool) -> tuple[str, int]:
    """Return what to print, and the exit code: as diff's, 0 for no difference, 1 for some, 2 for trouble."""
    families = changes.families
    if all(family.error for family in families):
        code = TROUBLE
    else:
        code = DIFFERENT if any(family.changes for family in families) else SAME
    if json:
        return as_json(changes), code
    lines = [line for family in harmless(changes).families for line in _family(family)]
    return "\n".join(lines) + "\n" if lines else "", code


def _family(family: FamilyChanges) -> Iterator[str]:
    if family.error:
        yield paint(f"{family.family}: {one_line(family.error)}", "red")
        return
    for service, changes in groupby(family.changes, key=lambda change: change.service):
        yield strong(f"# {family.family} {one_line(service or 'what is of no one Service')}")
        for change in changes:
            yield from _change(change)
    if family.changes:
        yield strong(f"# {family.family}: {family.coming} to come, {family.going} to go")


def _change(change: Change) -> Iterator[str]:
    place = f"{change.table} {change.chain}"
    yield paint(f"--- {place} (kernel)", "red")
    yield paint(f"+++ {place} (wanted)", "green")
    yield paint(f"@@ {one_line(change.service or '')} @@".replace("  ", " "), "cyan")
    for line in change.lines:
        colour = {"-": "red", "+": "green"}.get(line[:1])
        text = one_line(line, 2000)
        yield paint(text, colour) if colour else text
