"""What is said of objects: each thing once, for as long as it is so."""

import msgspec

from kproxy.api.types import Node
from tests.kit.apiserver.objects import make_node
from tests.kit.logged import Logged
from tests.report.test_conntrack import IdleKeeper, reporter_of


def node(*addresses: str) -> Node:
    return msgspec.convert(make_node("node-a", addresses=addresses), Node)


def test_a_node_that_says_nonsense_is_told_of_once_until_it_says_something_else(
    logged: Logged,
) -> None:
    def told() -> list[object]:
        return [record.fields["field"] for record in logged.records]  # type: ignore[attr-defined]

    with reporter_of(IdleKeeper()) as reporter:
        for _ in range(3):  # a Node changes with every heartbeat of old kubelets
            reporter.node_changed(node("nonsense", "192.0.2.1"))
        assert told() == ["status.addresses[0].address"]
        reporter.node_changed(node("192.0.2.1"))
        reporter.node_changed(None)
        assert len(told()) == 1
        reporter.node_changed(node("nonsense", "192.0.2.1"))
        assert len(told()) == 2
