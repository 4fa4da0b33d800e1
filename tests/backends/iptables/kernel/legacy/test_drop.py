"""The bytes that libiptc has read a table into go back to the system, and its rules are as they were."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kproxy.backends.iptables.kernel.legacy.drop import WORTH_IT, drop_entries
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.libiptc import LibIPTC, TableHandle
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableInfo, TableReader
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import IPFamily
from tests.kit.iptables.tools import restore, saved
from tests.kit.netns import network_namespace

pytestmark = pytest.mark.kernel

RULES = 2 * WORTH_IT // 300


@pytest.fixture(params=IPFamily, ids=str)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IPFamily]:
    assert isinstance(request.param, IPFamily)
    with network_namespace(tmp_path):
        yield request.param


def outline(family: IPFamily) -> TableInfo:
    with closing(TableReader(entry_layout(family))) as reader:
        return reader.info(TableName.NAT)


def resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def test_a_large_table_is_given_back_and_what_is_committed_then_is_whole(family: IPFamily) -> None:
    rules = [
        f"[{number}:{number * 60}] -A KUBE-SVC-ANY -p tcp -m tcp --dport {1 + number % 60_000} "
        f'-m comment --comment "number {number}" -j KUBE-MARK-MASQ'
        for number in range(RULES)
    ]
    text = ["*nat", ":KUBE-SVC-ANY - [0:0]", ":KUBE-MARK-MASQ - [0:0]", *rules, "COMMIT", ""]
    restore(family, "legacy", "\n".join(text), "--counters")
    before, size = saved(family, "legacy", TableName.NAT, counters=True), outline(family).size
    with TableHandle(LibIPTC(family), TableName.NAT) as handle:
        held = resident()
        handle.drop_entries(size)
        assert held - resident() > 0.9 * size
        handle.create_chain("KUBE-NEW")
        handle.commit()
    now = saved(family, "legacy", TableName.NAT, counters=True)
    assert sorted(now) == sorted([*before, ":KUBE-NEW - [0:0]"])


def test_what_does_not_look_like_the_table_is_left_alone(family: IPFamily) -> None:
    library = LibIPTC(family)
    handle = library.init(b"nat")
    try:
        size = outline(family).size
        assert not drop_entries(handle, "nat", size)  # so little is not worth looking for
        assert not drop_entries(handle, "nat", size + WORTH_IT)
        assert not drop_entries(handle, "filter", 2 * WORTH_IT)
    finally:
        library.free(handle)
