"""What the kernel was given as bytes reads, in iptables' own listing, as what was meant; and the other way round."""

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.iptables.kernel.legacy.encode import Encoder
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.image import TableImage
from kproxy.backends.iptables.kernel.legacy.libiptc import LibIPTC, TableHandle
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableReader
from kproxy.backends.iptables.rules.render import render_chain, render_ruleset
from kproxy.backends.iptables.rules.ruleset import Chain, RuleSet, Table, TableName
from kproxy.state.model import IPFamily
from tests.kit.examples import scaled
from tests.kit.iptables.strategies import TARGET_CHAINS, rules
from tests.kit.iptables.tools import restore, saved
from tests.kit.netns import network_namespace

pytestmark = pytest.mark.kernel

UNDER_TEST = "KUBE-SERVICES"
IPV4_MASK = " --mask 255.255.255.255"
TABLES = [(family, table) for family in IPFamily for table in TableName]


class Case(NamedTuple):
    family: IPFamily
    table: TableName


@pytest.fixture(params=TABLES, ids=lambda param: "-".join(param))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with network_namespace(tmp_path_factory.mktemp("lock")):
        yield Case(*request.param)


def ruleset(table: TableName, rules_under_test: Chain) -> RuleSet:
    """A chain of rules that no packet reaches, so that the kernel takes any of them."""
    chains: dict[str, Chain] = dict.fromkeys(TARGET_CHAINS, ())
    content, empty = Table(chains | {UNDER_TEST: rules_under_test}), Table({})
    return RuleSet(filter=content, nat=empty) if table is TableName.FILTER else RuleSet(filter=empty, nat=content)


def of_table(text: str, table: TableName) -> list[str]:
    lines = text.splitlines()
    start = lines.index(f"*{table}")
    return lines[start : lines.index("COMMIT", start) + 1]


def test_listing_of_encoded_rules_is_their_rendering(case: Case) -> None:
    applier = LegacyApplier(case.family)

    @settings(max_examples=scaled(60), deadline=None)
    @given(st.lists(rules(case.family, case.table), max_size=6).map(tuple))
    def check(chain: Chain) -> None:
        wanted = ruleset(case.table, chain)
        applier.reconcile(wanted)
        assert saved(case.family, "legacy", case.table) == of_table(render_ruleset(wanted, case.family), case.table)
        assert applier.reconcile(wanted).repaired == 0

    with closing(applier):
        check()


def test_iptables_makes_the_same_bytes_of_the_rendering(case: Case) -> None:
    """So taking over from kube-proxy leaves its rules, and their counters, as they are."""
    layout = entry_layout(case.family)
    reader, library, encoder = TableReader(layout), LibIPTC(case.family), Encoder(case.family)
    declared = [f":{chain} - [0:0]" for chain in (*TARGET_CHAINS, UNDER_TEST)]

    @settings(max_examples=scaled(60), deadline=None)
    @given(st.lists(rules(case.family, case.table), max_size=6).map(tuple))
    def check(chain: Chain) -> None:
        # kube-proxy leaves out the mask of recent lists; given, iptables fills only the first of its four words.
        text = [line.replace(IPV4_MASK, "") for line in render_chain(UNDER_TEST, chain, case.family)]
        restore(case.family, "legacy", "\n".join([f"*{case.table}", *declared, *text, "COMMIT", ""]))
        expected = [encoder.encode(rule) for rule in chain]
        assert TableImage(layout, *reader.read(case.table)).entries(UNDER_TEST) == expected
        with TableHandle(library, case.table) as handle:
            assert [handle.entry(UNDER_TEST, number) for number in range(len(chain))] == expected
            assert handle.entry(UNDER_TEST, len(chain)) is None

    with closing(reader):
        check()
