"""What the daemon knows of its node, put together to be judged; see `kproxy.node.problems`."""

import time
from collections.abc import Callable, Collection

from kproxy.api.types import Node, ServiceCIDR
from kproxy.daemon import engines
from kproxy.node import survey
from kproxy.node.problems import View
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.proxier.loop import NODE_WAIT_SECONDS

Facts = Callable[[Node | None, Collection[ServiceCIDR]], NodeFacts]


class NodeViewer:
    """Hears of the Node object and of descriptors that are lacking, and looks at the rest itself."""

    def __init__(self, facts: Facts, settings: ProxySettings, *, from_api: bool) -> None:
        """``from_api`` says whether there should be a Node object."""
        self._facts = facts
        self._settings = settings
        self._from_api = from_api
        self._node: Node | None = None
        self._told = False
        self._started = time.monotonic()
        self._lacking = 0

    def node_changed(self, node: Node | None) -> None:
        """The Node object came, changed, is gone, or was never there."""
        self._node, self._told = node, True

    def lacks(self, ports: int) -> None:
        """So many health-check node ports can't be opened for want of descriptors. From any thread."""
        self._lacking = ports

    def view(self) -> View:
        """Return what is known."""
        settled = self._told or time.monotonic() - self._started >= NODE_WAIT_SECONDS
        seen = survey.look(kube_proxy_table=engines.has_kube_proxy_table(), ports_without_descriptor=self._lacking)
        missing = self._from_api and self._told and self._node is None
        facts = self._facts(self._node, ())
        return View(settings=self._settings, facts=facts, seen=seen, settled=settled, node_missing=missing)
