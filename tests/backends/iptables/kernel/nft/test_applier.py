"""The nft variant compares rules as text, whatever the spelling of the iptables at hand."""

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.backends.iptables.kernel.nft import applier as nft_variant
from kproxy.backends.iptables.kernel.nft.applier import NftApplier, NftTools, Part
from kproxy.backends.iptables.kernel.nft.watch import NftWatch
from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.diff import diff
from kproxy.backends.iptables.rules.render import render_rule, render_ruleset
from kproxy.backends.iptables.rules.ruleset import Chain, DestinationPort, Rule, TableName
from kproxy.backends.iptables.rules.ruletext import canonical, lines_of, target_of
from kproxy.state.model import IPFamily, Protocol
from tests.backends.iptables.kernel.legacy.test_encode_listing import TABLES, ruleset
from tests.kit.examples import scaled
from tests.kit.iptables.samples import sample
from tests.kit.iptables.strategies import rules
from tests.kit.iptables.tools import run, saved
from tests.kit.netns import network_namespace


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        (" -j ACCEPT", "ACCEPT"),
        (" -s 10.0.0.0/8 -g KUBE-SVC-X", "KUBE-SVC-X"),
        (' -m comment --comment "then -j DROP" -j RETURN', "RETURN"),
        (r' -m comment --comment "a \" -j DROP" -j DNAT --to-destination 10.0.0.1:80', "DNAT"),
        (' -m comment --comment "only -j DROP"', ""),
        ("", ""),
    ],
)
def test_target_of_a_rule(rule: str, target: str) -> None:
    assert target_of(rule) == target


@pytest.mark.parametrize(
    ("saved", "lines"),
    [
        ("", []),
        ("*nat\nCOMMIT\n", ["*nat", "COMMIT"]),
        ('-A X --comment "a\n-A Y\nb" -j Z\n-A X\n', ['-A X --comment "a\n-A Y\nb" -j Z', "-A X"]),
        ('-A X --comment "a \\" b\n" -j Z\n', ['-A X --comment "a \\" b\n" -j Z']),
        ('-A X --comment "a\\\\"\n-A X\n', ['-A X --comment "a\\\\"', "-A X"]),
        ('-A X --comment "a\r\u2028b"\n-A X\n', ['-A X --comment "a\r\u2028b"', "-A X"]),
        (':odd"name - [0:0]\n' + "-A X\n" * 2000, [':odd"name - [0:0]', *["-A X"] * 2000]),
    ],
)  # fmt: skip
def test_a_comment_ends_no_line(saved: str, lines: list[str]) -> None:
    assert lines_of(saved) == lines


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (" -p tcp -m tcp --dport 80 -j X", " -p tcp -m tcp -j X --dport 80"),
        (" -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80", " -p tcp -j DNAT --to-destination 10.0.0.1:80"),
        (" ! -s 10.0.0.0/8 -d 10.0.0.1/32", " -d 10.0.0.1 ! -s 10.0.0.0/8"),
        (" -d ::ffff:1.2.3.4/128", " -d ::ffff:102:304/128"),
        (' -m comment --comment "-j x" -j Y', " -j Y -m comment --comment '-j x'"),
    ],
)
def test_same_rule_in_other_words(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (" -s 10.0.0.0/8", " ! -s 10.0.0.0/8"),
        (" -s 10.0.0.0/8", " -d 10.0.0.0/8"),
        (" -j X", " -g X"),
        (" -m mark --mark 0x1", " -m mark ! --mark 0x1"),
        (' -m comment --comment "a b"', ' -m comment --comment "b a"'),
    ],
)
def test_different_rules(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def texts_of(*rules: Rule) -> list[str]:
    return [render_rule(rule, IPFamily.IPV4) for rule in rules]


def without_words(rule: Rule) -> Rule:
    """The rule without what says nothing: that any port will do."""
    any_port = [DestinationPort(protocol, 0, 65_535) for protocol in Protocol]
    return msgspec.structs.replace(rule, matches=tuple(one for one in rule.matches if one not in any_port))


def check_forms(one: Rule, other: Rule) -> None:
    forms = [canonical(text) for text in texts_of(one, other)]
    said = texts_of(without_words(one), without_words(other))
    assert (forms[0] == forms[1]) == (said[0] == said[1])


@given(st.data())
def test_different_rules_have_different_forms(data: st.DataObject) -> None:
    check_forms(*(data.draw(rules(IPFamily.IPV4, TableName.NAT)) for _ in range(2)))


def test_that_any_port_will_do_is_no_difference() -> None:
    any_port = DestinationPort(Protocol.TCP, 0, 65_535)
    plain = Rule(target=None, protocol=Protocol.TCP)
    check_forms(plain, msgspec.structs.replace(plain, matches=(any_port,)))


@pytest.mark.kernel
@pytest.mark.parametrize(("family", "table"), TABLES)
def test_whatever_was_written_is_recognised(
    family: IPFamily, table: TableName, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with network_namespace(tmp_path_factory.mktemp("lock")), contextlib.closing(NftApplier(family)) as applier:

        @settings(max_examples=scaled(25), deadline=None)
        @given(st.lists(rules(family, table), max_size=6).map(tuple))
        def check(chain: Chain) -> None:
            applier.reconcile(ruleset(table, chain))
            assert applier.reconcile(ruleset(table, chain)).repaired == 0

        check()


_PORT_LAST = re.compile(r" -p tcp( -m comment --comment .*)( -m tcp --dport 80)( -j KUBE-SVC)")


@pytest.mark.kernel
def test_another_spelling_is_not_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a release of iptables that prints options in another order."""

    def respelled(self: NftTools, table: str, *options: str) -> list[str]:
        return [_PORT_LAST.sub(r" -p tcp\2\1\3", line) for line in save(self, table, *options)]

    save = NftTools.save
    with network_namespace(tmp_path), contextlib.closing(NftApplier(IPFamily.IPV4)) as applier:
        wanted = sample(IPFamily.IPV4, {1: [11], 2: [12]})
        applier.reconcile(wanted)
        monkeypatch.setattr(nft_variant.NftTools, "save", respelled)
        assert any("-p tcp -m tcp --dport 80 -m comment" in line for line in NftTools(IPFamily.IPV4).save("nat"))
        assert applier.reconcile(wanted).repaired == 0


# --- many chains at once ---------------------------------------------------------------------------------------------

FEW: Mapping[int, list[int]] = {1: [11]}
MANY: Mapping[int, list[int]] = {number: [10 + number] for number in range(1, 9)}


@pytest.mark.kernel
@pytest.mark.parametrize("family", IPFamily)
@pytest.mark.parametrize("before", [None, FEW], ids=["from nothing", "as a step"])
def test_many_new_chains_come_in_several_runs(
    before: Mapping[int, list[int]] | None, family: IPFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nft_variant, "CHAINS_AT_ONCE", 3)
    wanted = sample(family, MANY)
    with network_namespace(tmp_path), contextlib.closing(NftApplier(family)) as applier:
        if before is None:
            applier.reconcile(wanted)
        else:
            applier.reconcile(sample(family, before))
            assert applier.apply(diff(sample(family, before), wanted)).fell_back == ""
        assert not applier.drifted()
        assert [line for name in TableName for line in saved(family, Variant.NFT, name)] == render_ruleset(
            wanted, family
        ).splitlines()


@pytest.mark.kernel
@pytest.mark.parametrize("runs", range(5))
def test_nothing_leads_to_new_chains_before_all_are_there(
    runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nft_variant, "CHAINS_AT_ONCE", 3)
    restore = NftTools.restore
    left = runs

    def interrupted(self: NftTools, parts: Iterable[Part]) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        restore(self, parts)

    with network_namespace(tmp_path), contextlib.closing(NftApplier(IPFamily.IPV4)) as applier:
        monkeypatch.setattr(NftTools, "restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            applier.reconcile(sample(IPFamily.IPV4, MANY))
        monkeypatch.setattr(NftTools, "restore", restore)
        assert not any(re.match(r"-A [A-Z]+ ", line) for line in saved(IPFamily.IPV4, Variant.NFT, TableName.NAT))
        applier.reconcile(sample(IPFamily.IPV4, MANY))
        assert applier.reconcile(sample(IPFamily.IPV4, MANY)).repaired == 0


# --- noticing others -------------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_commits_of_others_during_our_own_are_noticed(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        watch = NftWatch(IPFamily.IPV4)
        watch.start()
        with watch.own_commits(1):
            run(IPFamily.IPV4, "nft", "-t nat -N KUBE-OURS")
        assert not watch.changed()
        with watch.own_commits(1):
            run(IPFamily.IPV4, "nft", "-t nat -N KUBE-SVC-OURS")
            run(IPFamily.IPV4, "nft", "-t mangle -N OTHERS")
        assert watch.changed()  # whose it was, the generation number does not tell
        watch.start()
        assert not watch.changed()
        watch.close()


@pytest.mark.kernel
def test_more_changes_than_there_is_room_for_are_a_change(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        run(IPFamily.IPV4, "nft", "-t nat -N NEIGHBOUR")
        watch = NftWatch(IPFamily.IPV4)
        watch.start()
        elsewhere = ["*nat", ":NEIGHBOUR - [0:0]", *["-A NEIGHBOUR -j RETURN"] * 5_000, "COMMIT", ""]
        tools = NftTools(IPFamily.IPV4)
        run(IPFamily.IPV4, "nft", "-t nat -A NEIGHBOUR -j RETURN")
        assert not watch.changed()
        nft_variant._run([tools._restore, "--noflush"], "\n".join(elsewhere))
        assert watch.changed()
        watch.close()


def test_empty_rule_is_a_rule() -> None:
    assert render_rule(Rule(target=None), IPFamily.IPV4) == ""
    assert canonical("") == ()
