"""Who says whether endpoints take turns: the Service before the configuration, and affinity before both."""

import msgspec
import pytest

from kproxy.plan.model import Target
from kproxy.plan.node import plan_node
from kproxy.plan.service import plan_service
from kproxy.state.model import LoadBalancing
from tests.plan.test_planner import BALANCED, HERE, NODE, PORT, SETTINGS, V4

RANDOM, IN_TURN = LoadBalancing


@pytest.mark.parametrize(
    ("configured", "annotated", "affinity", "in_turn"),
    [
        (RANDOM, None, 0, False),
        (RANDOM, RANDOM, 0, False),
        (RANDOM, IN_TURN, 0, True),
        (IN_TURN, None, 0, True),
        (IN_TURN, RANDOM, 0, False),
        (IN_TURN, IN_TURN, 0, True),
        (IN_TURN, IN_TURN, 600, False),
        (IN_TURN, None, 600, False),
        (RANDOM, IN_TURN, 600, False),
    ],
)
def test_who_wins(configured: LoadBalancing, annotated: LoadBalancing | None, affinity: int, in_turn: bool) -> None:
    settings = msgspec.structs.replace(SETTINGS, load_balancing=configured)
    for port in (PORT, BALANCED):
        port = msgspec.structs.replace(port, load_balancing=annotated, affinity_seconds=affinity)
        plan = plan_service(port, [HERE], NODE, plan_node(V4, NODE, settings), settings)
        assert plan.in_turn is in_turn
        assert plan.internal.in_turn is in_turn
        assert plan.external is None or plan.external.in_turn is in_turn


def test_there_is_no_turn_where_nobody_is() -> None:
    settings = msgspec.structs.replace(SETTINGS, load_balancing=IN_TURN)
    plan = plan_service(PORT, [], NODE, plan_node(V4, NODE, settings), settings)
    assert plan.internal.to is Target.REJECT
    assert not plan.in_turn
