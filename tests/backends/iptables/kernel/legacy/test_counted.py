"""Counters taken straight from a table's bytes are those that iptables-save prints."""

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.iptables.kernel.errors import InterruptedReadingError, KernelRefusedError
from kproxy.backends.iptables.kernel.legacy.counted import locate
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.image import HOOK_CHAINS
from kproxy.backends.iptables.kernel.legacy.tableinfo import _GET_ENTRIES, TableInfo, TableReader
from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.counted import ABSENT, Place, packets_at
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import IPFamily
from tests.kit.iptables.tools import restore, saved
from tests.kit.netns import network_namespace
from tests.kit.semantics import examples

pytestmark = pytest.mark.kernel

TARGETS = ("ACCEPT", "RETURN", "MARK --set-xmark 0x4000/0x4000", "ERROR-1")
MATCHES = ("", "-m comment --comment ERROR", "-p tcp -m tcp --dport 80", "-m statistic --mode random --probability 0.5")
COUNTED = re.compile(r"\[(\d+):\d+\] -A (\S+)")
BUILTINS = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")

rules = st.lists(st.tuples(st.sampled_from(MATCHES), st.sampled_from(TARGETS), st.integers(0, 2**40)), max_size=6)
chains = st.dictionaries(st.sampled_from(("KUBE-A", "KUBE-B", "ERRORS", "x", *BUILTINS)), rules, max_size=6)


def text_of(drawn: dict[str, list[tuple[str, str, int]]]) -> str:
    named = {"ERROR-1": [], **drawn}
    return "\n".join(
        [
            "*nat",
            *(f":{chain} {'ACCEPT' if chain in BUILTINS else '-'} [0:0]" for chain in named),
            *(
                f"[{packets}:{packets}] -A {chain} {match} -j {target}"
                for chain, its in named.items()
                for match, target, packets in its
                if target != chain and not (target.startswith("MARK") and chain in BUILTINS)
            ),
            "COMMIT",
            "",
        ]
    )


@pytest.mark.parametrize("family", list(IPFamily))
@examples(30)
@given(drawn=chains, data=st.data())
def test_equal_to_what_iptables_save_prints(
    family: IPFamily,
    drawn: dict[str, list[tuple[str, str, int]]],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    layout = entry_layout(family)
    with network_namespace(tmp_path_factory.mktemp("netns")):
        restore(family, Variant.LEGACY, text_of(drawn), "--counters")
        info, blob = read(family)
        printed = saved(family, Variant.LEGACY, TableName.NAT, counters=True)
    counters: dict[str, list[int]] = {line[1:].partition(" ")[0]: [] for line in printed if line.startswith(":")}
    for line in printed:
        if found := COUNTED.match(line):
            counters[found[2]].append(int(found[1]))
    places = data.draw(
        st.lists(st.sampled_from(sorted(counters)).flatmap(lambda chain: place(chain, len(counters[chain]))))
    )
    builtins = {HOOK_CHAINS[hook]: info.hook_entries[hook] for hook in info.hooks}
    index = locate(layout, builtins, memoryview(blob), places)
    assert index.packets(memoryview(blob)) == packets_at(places, counters)
    assert index.complete == (ABSENT not in packets_at(places, counters))


def read(family: IPFamily) -> tuple[TableInfo, bytes]:
    reader = TableReader(entry_layout(family))
    try:
        info, view = reader.view("nat")
        again, blob = reader.read("nat")
    finally:
        reader.close()
    assert (info, bytes(view)) == (again, blob)
    return info, blob


def place(chain: str, length: int) -> st.SearchStrategy[Place]:
    """Some of a chain's rules, or of one that is not as long."""
    positions: st.SearchStrategy[Sequence[int]] = st.lists(st.integers(0, max(0, length - 1)), max_size=3, unique=True)
    wrong = st.just(Place(chain, length + 1, (0, length)))
    return positions.map(lambda found: Place(chain, length, tuple(sorted(found)) if length else ())) | wrong


@pytest.mark.parametrize("late", [False, True], ids=["before the kernel has copied", "after that"])
@pytest.mark.parametrize("family", list(IPFamily))
def test_a_reading_makes_way_for_who_wants_to_write(
    family: IPFamily, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the daemon it is the loop's thread that asks for it, while this one waits for the kernel.

    Or has just been served: what is there can't be looked at any more all the same, and whoever did would be killed.
    """
    with network_namespace(tmp_path):
        restore(family, Variant.LEGACY, text_of({"KUBE-A": [("", "ACCEPT", 7)] * 50}), "--counters")
        reader = TableReader(entry_layout(family))
        reader.make_way()  # nobody reads
        ask = reader._ask

        def interrupted(*arguments: Any) -> None:
            if arguments[1] == _GET_ENTRIES and not late:
                reader.make_way()
            ask(*arguments)
            if arguments[1] == _GET_ENTRIES:
                reader.make_way()

        with monkeypatch.context() as patch:
            patch.setattr(reader, "_ask", interrupted)
            with pytest.raises(KernelRefusedError) as refusal:
                reader.view("nat")
        assert refusal.value.code == errno.EFAULT
        assert len(reader.view("nat")[1]) == reader.info("nat").size
        reader.close()


def test_whoever_is_waited_for_stops_looking(tmp_path: Path) -> None:
    layout = entry_layout(IPFamily.IPV4)
    with network_namespace(tmp_path):
        restore(IPFamily.IPV4, Variant.LEGACY, text_of({"KUBE-A": [("", "RETURN", 1)], "KUBE-B": []}))
        info, blob = read(IPFamily.IPV4)
        reader = TableReader(layout)
        try:
            with pytest.raises(KernelRefusedError) as caught:
                reader.view("nat", hurry=lambda: True)
        finally:
            reader.close()
    assert caught.value.code == errno.EFAULT
    builtins = {HOOK_CHAINS[hook]: info.hook_entries[hook] for hook in info.hooks}
    with pytest.raises(InterruptedReadingError):
        locate(layout, builtins, memoryview(blob), [Place("KUBE-A", 1, (0,))], hurry=lambda: True)
