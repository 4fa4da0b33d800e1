"""A node whose rules are in the kernel as planned, until a test edits them; in the test's own namespace."""

import subprocess
from typing import NamedTuple

from kproxy.backends.base import Backend
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.variant import Variant, open_applier
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.explain.answer import Kernel, explain
from kproxy.explain.model import Answer
from kproxy.explain.question import ask
from kproxy.explain.view import View
from kproxy.held.read import read_rules
from kproxy.state.model import IPFamily
from tests.kit.views import shop_view


class Engine(NamedTuple):
    """One of the ways in which kproxy writes rules."""

    name: str
    variant: Variant | None
    layout: Layout = Layout.CLASSIC

    def __str__(self) -> str:
        return self.name

    @property
    def mode(self) -> str:
        return "iptables" if self.variant else "nftables"

    def backend(self, family: IPFamily) -> Backend:
        if self.variant is None:
            return NftablesBackend(family)
        return IptablesBackend(family, open_applier(family, self.variant), self.layout)


ENGINES = (
    Engine("legacy", Variant.LEGACY),
    Engine("legacy-large", Variant.LEGACY, Layout.LARGE),
    Engine("nft", Variant.NFT),
    Engine("nftables", None),
)
IPTABLES = tuple(engine for engine in ENGINES if engine.variant)


class Node:
    """A node whose rules are as planned, until somebody edits them."""

    def __init__(self, engine: Engine, family: IPFamily) -> None:
        self.engine = engine
        self.family = family
        self.view: View = shop_view(family, engine.mode)
        self.backend = engine.backend(family)
        self.backend.apply(self.view.plan, self.view.plan.services.keys(), full=True)

    def iptables(self, arguments: str, *, variant: Variant | None = None) -> None:
        program = "iptables" if self.family is IPFamily.IPV4 else "ip6tables"
        run(f"{program}-{variant or self.engine.variant or Variant.NFT} {arguments}")

    def close(self) -> None:
        getattr(self.backend, "_applier").close()  # noqa: B009 (each backend has one)

    def explain(self, text: str = "shop/web", **asked: str) -> Answer:
        kernel = Kernel(rules=lambda family: read_rules(family, self.engine.variant, self.engine.layout))
        return explain([self.view], ask(text, family=self.family, **asked), kernel)


def run(command: str) -> None:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
