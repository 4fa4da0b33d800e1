"""An applier of each variant and family, in a network namespace of its own."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from kproxy.backends.iptables.kernel.applier import Applier
from kproxy.backends.iptables.kernel.variant import Variant, open_applier
from kproxy.backends.iptables.rules.names import is_ours
from kproxy.backends.iptables.rules.render import BUILTIN_CHAINS, render_ruleset
from kproxy.backends.iptables.rules.ruleset import RuleSet, TableName
from kproxy.state.model import IPFamily
from tests.kit.iptables.tools import restore, run, saved
from tests.kit.netns import network_namespace

ALL_KINDS = [(variant, family) for variant in Variant for family in IPFamily]


class Node(NamedTuple):
    """A node with an applier; what stands in its tables is seen with iptables' own programs."""

    variant: Variant
    family: IPFamily
    applier: Applier

    def run(self, arguments: str) -> None:
        run(self.family, self.variant, arguments)

    def restore(self, text: str, *options: str) -> None:
        restore(self.family, self.variant, text, *options)

    def saved(self, *, counters: bool = False) -> list[str]:
        """Return both tables' listing, filter first."""
        return [line for name in TableName for line in saved(self.family, self.variant, name, counters=counters)]

    def rendered(self, ruleset: RuleSet) -> list[str]:
        return render_ruleset(ruleset, self.family).splitlines()


@pytest.fixture(params=ALL_KINDS, ids=lambda kind: "-".join(kind))
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    variant, family = request.param
    with network_namespace(tmp_path), closing(open_applier(family, variant)) as applier:
        yield Node(variant, family, applier)


_LINE = re.compile(r"(?:\[\d+:\d+\] )?(?::|-A )(\S+)(?:.* -[jg] (\S+))?")


def of_others(lines: list[str]) -> list[str]:
    """Return the lines of a listing without our chains and without jumps to them from built-in chains."""
    kept = []
    table = TableName.FILTER
    for line in lines:
        if line.startswith("*"):
            table = TableName(line[1:])
        found = _LINE.match(line)
        is_hook = found and found[1] in BUILTIN_CHAINS[table] and found[2] and is_ours(table, found[2])
        if not (found and is_ours(table, found[1])) and not is_hook:
            kept.append(line)
    return kept
