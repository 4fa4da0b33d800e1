"""What must change from one ruleset to the next."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.iptables.kernel.edit import TableContent, TableEdit, edit_for_change, edit_for_repair
from kproxy.backends.iptables.rules.diff import ChainChange, Hunk, diff, edit_script
from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Chain,
    Drop,
    Hook,
    Jump,
    Return,
    Rule,
    RuleSet,
    Table,
)

ACCEPT, DROP, RETURN = Rule(target=Accept()), Rule(target=Drop()), Rule(target=Return())

letter = st.sampled_from("abcdef")
letters = st.lists(letter, max_size=12)
distinct = st.lists(st.integers(0, 40), unique=True, max_size=25)


T = TypeVar("T", bound=Hashable)


def edited(rules: Sequence[T], hunks: Sequence[Hunk[T]]) -> list[T]:
    """Do what the hunks say, as the appliers do it."""
    result = list(rules)
    for hunk in reversed(hunks):
        assert tuple(result[hunk.at : hunk.at + len(hunk.old)]) == hunk.old
        result[hunk.at : hunk.at + len(hunk.old)] = hunk.new
    return result


@given(letters, letters)
def test_script_leads_from_old_to_new(old: list[str], new: list[str]) -> None:
    assert edited(old, edit_script(old, new)) == new


@given(letters)
def test_nothing_to_do_for_equal_rules(rules: list[str]) -> None:
    assert edit_script(rules, list(rules)) == ()


def longest_common(old: Sequence[T], new: Sequence[T]) -> int:
    lengths = [0] * (len(new) + 1)
    for one in old:
        before = lengths[:]
        for index, other in enumerate(new):
            lengths[index + 1] = before[index] + 1 if one == other else max(before[index + 1], lengths[index])
    return lengths[-1]


@given(distinct, distinct)
def test_as_many_rules_stay_as_can(old: list[int], new: list[int]) -> None:
    hunks = edit_script(old, new)
    assert len(old) - sum(len(hunk.old) for hunk in hunks) == longest_common(old, new)


def test_one_insertion_in_a_long_list_is_one_hunk() -> None:
    old = list(range(10_000))
    assert edit_script(old, [*old[:5_000], -1, *old[5_000:]]) == (Hunk(5_000, (), (-1,)),)


def ruleset(filter_chains: dict[str, Chain], nat_chains: dict[str, Chain], hooks: tuple[Hook, ...] = ()) -> RuleSet:
    return RuleSet(filter=Table(filter_chains, hooks), nat=Table(nat_chains))


def test_diff_names_changed_new_and_gone_chains_only() -> None:
    old = ruleset({"A": (ACCEPT,), "B": (DROP,)}, {"C": (), "D": (DROP,)})
    new = ruleset({"A": (ACCEPT,), "B": (RETURN,)}, {"C": (), "E": ()})
    change = diff(old, new)
    assert change.after is new
    assert change.filter == {"B": ChainChange((DROP,), (RETURN,))}
    assert change.nat == {"D": ChainChange((DROP,), None), "E": ChainChange(None, ())}
    assert not change.hooks_changed


def test_diff_tells_that_hooks_changed() -> None:
    hooks = (Hook("INPUT", Rule(target=Jump("A"))),)
    assert diff(ruleset({}, {}), ruleset({}, {}, hooks)).hooks_changed


@given(letters, letters)
def test_split_edit_first_only_adds_then_only_removes(old: list[str], new: list[str]) -> None:
    whole = TableEdit[str](hunks={"A": edit_script(old, new)}, fill={"B": ()}, remove=("C",))
    growth, shrinkage = whole.split()
    assert growth.fill == {"B": ()}
    assert shrinkage.remove == ("C",)
    assert not list(growth.going())
    assert not list(shrinkage.coming())
    between = edited(old, growth.hunks.get("A", ()))
    assert edited(between, shrinkage.hunks.get("A", ())) == new
    assert longest_common(between, old) == len(old)
    assert longest_common(between, new) == len(new)


def test_in_between_what_comes_stands_before_what_goes() -> None:
    growth, _ = TableEdit(hunks={"A": edit_script("xay", "xby")}).split()
    assert edited("xay", growth.hunks["A"]) == list("xbay")


@given(letters, letters, st.sets(letter), st.sets(letter))
def test_some_rules_go_early_and_some_come_late(
    old: list[str], new: list[str], early: set[str], late: set[str]
) -> None:
    whole = TableEdit[str](hunks={"A": edit_script(old, new)}, fill={"B": tuple(new)})
    first, last = whole.split(early, late)
    assert set(first.going()) == {found for found in whole.going() if found[1] in early}
    assert set(last.going()) == {found for found in whole.going() if found[1] not in early}
    assert set(first.coming()) == {found for found in whole.coming() if found[1] not in late}
    assert set(last.coming()) == {found for found in whole.coming() if found[1] in late}
    assert edited(edited(old, first.hunks.get("A", ())), last.hunks.get("A", ())) == new
    assert edited(first.fill["B"], last.hunks.get("B", ())) == new


def test_edit_for_change_fills_new_chains_and_empties_gone_ones() -> None:
    changes = {
        "NEW": ChainChange(None, (ACCEPT, DROP)),
        "GONE": ChainChange((ACCEPT,), None),
        "OTHER": ChainChange((ACCEPT, DROP), (ACCEPT, RETURN)),
        "EMPTY": ChainChange((), None),
    }
    edit = edit_for_change(changes, lambda _, rules: rules)
    assert edit.fill == {"NEW": (ACCEPT, DROP)}
    assert edit.hunks == {"GONE": (Hunk(0, (ACCEPT,), ()),), "OTHER": (Hunk(1, (DROP,), (RETURN,)),)}
    assert edit.remove == ("GONE", "EMPTY")


def content(**chains: list[str]) -> TableContent[str]:
    """A table with one built-in chain, BUILTIN; a rule leads to the chain that its last word names."""
    return TableContent(chains=chains, builtins=["BUILTIN"], target=lambda rule: rule.rpartition(" ")[2])


def repaired(
    found: TableContent[str], wanted: dict[str, list[str]], hooks: list[str]
) -> tuple[dict[str, list[str]], TableEdit[str]]:
    """Return what the table becomes; chains whose names begin with OUR are ours."""
    edit = edit_for_repair(found, wanted, {"BUILTIN": hooks}, lambda chain: chain.startswith("OUR"))
    after = {chain: edited(rules, edit.hunks.get(chain, ())) for chain, rules in found.chains.items()}
    after |= {chain: list(rules) for chain, rules in edit.fill.items()}
    for chain in edit.remove:
        assert after.pop(chain) == []
    return after, edit


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["1 OUR1", "2 OUR2"]),
        (["x THEIRS"], ["1 OUR1", "2 OUR2", "x THEIRS"]),
        (["x THEIRS", "2 OUR2"], ["1 OUR1", "x THEIRS", "2 OUR2"]),
        (["2 OUR2", "x THEIRS", "1 OUR1"], ["2 OUR2", "x THEIRS", "1 OUR1"]),
        (["1 OUR1", "x THEIRS", "1 OUR1", "2 OUR2", "2 OUR2"], ["1 OUR1", "x THEIRS", "2 OUR2"]),
        (["outdated OUR1", "1 OUR1", "x THEIRS", "x THEIRS", "OUR3"], ["2 OUR2", "1 OUR1", "x THEIRS", "x THEIRS"]),
    ],
    ids=["empty", "at the top", "stays where it is", "any order", "doubles", "outdated"],
)
def test_each_hook_is_there_once(before: list[str], after: list[str]) -> None:
    wanted = {"OUR1": ["a"], "OUR2": ["b"]}
    found = content(BUILTIN=before, **wanted, THEIRS=[])
    assert repaired(found, wanted, ["1 OUR1", "2 OUR2"])[0]["BUILTIN"] == after


def test_others_chains_stay_as_they_are() -> None:
    found = content(BUILTIN=["THEIRS"], THEIRS=["x", "y"], OUR1=["wrong", "right", "too much"], OUR2=["stale"])
    after, edit = repaired(found, {"OUR1": ["right"], "OUR3": ["new"]}, [])
    assert after == {"BUILTIN": ["THEIRS"], "THEIRS": ["x", "y"], "OUR1": ["right"], "OUR3": ["new"]}
    assert edit.chains == {"OUR1", "OUR2", "OUR3"}


def test_a_chain_others_jump_to_is_left_empty() -> None:
    found = content(BUILTIN=[], THEIRS=["jump OUR1"], OUR1=["stale"])
    assert repaired(found, {}, [])[0] == {"BUILTIN": [], "THEIRS": ["jump OUR1"], "OUR1": []}


def test_a_shared_chain_only_gets_what_it_lacks() -> None:
    found = content(BUILTIN=[], SHARED=["theirs", "ours 1"])
    after, _ = repaired(found, {"SHARED": ["ours 1", "ours 2"]}, [])
    assert after["SHARED"] == ["theirs", "ours 1", "ours 2"]


@given(letters, letters, letters)
def test_repairing_twice_changes_nothing_more(builtin: list[str], ours: list[str], wanted: list[str]) -> None:
    found = content(BUILTIN=[f"{rule} OUR1" for rule in builtin], OUR1=ours, THEIRS=["x"])
    after, _ = repaired(found, {"OUR1": wanted}, ["a OUR1", "b OUR1"])
    _, again = repaired(content(**after), {"OUR1": wanted}, ["a OUR1", "b OUR1"])
    assert again.chains == frozenset()
