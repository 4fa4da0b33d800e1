"""Why an endpoint gets no connections: the reasons behind what `topology` leaves out, as data."""

import enum
from collections.abc import Sequence

from kproxy.state.model import Endpoint


class Unused(enum.Enum):
    """What keeps an endpoint from getting new connections; the value says it in words."""

    NOT_READY = "not ready"
    TERMINATING = "terminating, while others are ready"
    NOT_SERVING = "terminating, and no longer serving"
    OTHER_NODE = "on another node, and the traffic policy is Local"
    OTHER_ZONE = "meant for another zone, by its topology hint"
    HINTED_NODE = "meant for another node, by its topology hint"


def why_unused(endpoint: Endpoint, candidates: Sequence[Endpoint], *, local: bool, node_name: str) -> Unused:
    """Return why ``endpoint``, which `topology.usable_endpoints` did not pick, was not picked.

    ``candidates`` are all endpoints of the service port, ``local`` says that policy Local chose among them.
    """
    if not endpoint.ready:
        if not endpoint.terminating:
            return Unused.NOT_READY
        return Unused.TERMINATING if endpoint.serving else Unused.NOT_SERVING
    if local and not endpoint.is_local:
        return Unused.OTHER_NODE
    ready = [other for other in candidates if other.ready]
    by_node = all(other.node_hints for other in ready) and any(node_name in other.node_hints for other in ready)
    return Unused.HINTED_NODE if by_node else Unused.OTHER_ZONE
