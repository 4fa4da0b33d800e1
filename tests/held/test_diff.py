"""What a full sync would change: nothing after one, everything before the first, and what somebody edited."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.held.changes import Change, FamilyChanges
from kproxy.held.diff import changes_wanted
from kproxy.state.model import IPFamily
from tests.explain.test_recordings import view
from tests.golden.test_golden import GOLDEN
from tests.kit.held import ENGINES, Node, run
from tests.kit.iptables.tools import restore
from tests.kit.netns import network_namespace

pytestmark = pytest.mark.kernel


@pytest.fixture(params=ENGINES, ids=str)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with network_namespace(tmp_path_factory.mktemp("lock")), closing(Node(request.param, IPFamily.IPV4)) as made:
        yield made


def changes(node: Node) -> FamilyChanges:
    return changes_wanted(node.view.plan, node.engine.variant, node.engine.layout)


def by_sign(found: FamilyChanges) -> set[str]:
    return {line[0] for change in found.changes for line in change.lines}


def test_nothing_after_a_sync(node: Node) -> None:
    assert changes(node).changes == ()


def test_everything_before_the_first(node: Node) -> None:
    node.backend.cleanup()
    found = changes(node)
    assert by_sign(found) == {"+"}
    assert {change.service for change in found.changes} >= {"shop/web:http", "shop/sticky:http"}
    node.backend.apply(node.view.plan, node.view.plan.services.keys(), full=True)
    assert changes(node).changes == ()


def test_what_somebody_edited_is_shown_with_the_service(node: Node) -> None:
    if node.engine.variant is None:
        run("nft 'delete element ip kproxy tcp/cluster-4/off-cluster { 10.96.0.80 . 80 }'")
    else:
        chain = next(rule.chain for rule in node.explain().rules if rule.chain.startswith("KUBE-SVC-"))
        node.iptables(f"-t nat -D {chain} 1")
        node.iptables(f"-t nat -A {chain} -j ACCEPT")
    found = changes(node)
    assert {change.service for change in found.changes} == {"shop/web:http"}
    assert by_sign(found) == ({"+"} if node.engine.variant is None else {"+", "-"})


def test_rules_of_a_service_that_is_gone(node: Node) -> None:
    services = {name: plan for name, plan in node.view.plan.services.items() if name.name != "sticky"}
    node.view.plan.services.clear()  # type: ignore[attr-defined]
    node.view.plan.services.update(services)  # type: ignore[attr-defined]
    found = changes(node)
    assert by_sign(found) == {"-"}
    if node.engine.name in ("legacy", "nft"):  # comments tell whose they were
        assert {change.service for change in found.changes} == {"shop/sticky:http"}


def test_what_only_moves_in_a_list_is_no_change(tmp_path: Path) -> None:
    """As on a node of kube-proxy's, whose order is by chance."""
    text = (GOLDEN / "clusterip-dns" / "iptables.v4.save").read_text()
    with network_namespace(tmp_path):
        restore(IPFamily.IPV4, "legacy", "\n".join(line for line in text.splitlines() if "nfacct" not in line) + "\n")
        found = changes_wanted(view("clusterip-dns", IPFamily.IPV4).plan, Variant.LEGACY)
    assert {change.service for change in found.changes} <= {None}
    assert by_sign(found) <= {"+"}


def test_rules_of_others_are_left_out(node: Node) -> None:
    node.iptables("-A FORWARD -d 192.0.2.0/24 -j DROP")
    node.iptables("-t nat -N OTHERS")
    assert changes(node).changes == ()


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    nft = next(engine for engine in ENGINES if engine.name == "nft")
    with network_namespace(tmp_path), closing(Node(nft, IPFamily.IPV4)) as node:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", "/nowhere")
            found = changes(node)
        assert found.error is not None
        assert "is not installed" in found.error


def test_numbers_to_come_and_to_go() -> None:
    change = Change(table="nat", chain="C", lines=("-a", "+b", "+c"))
    found = FamilyChanges(family="IPv4", changes=(change,))
    assert (found.coming, found.going) == (2, 1)
