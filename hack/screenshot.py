"""Makes the picture of the page in the README: a real kproxy on a node of the lab, real connections, a real browser.

    python -m hack.screenshot [FOLDER]

Needs root and a browser (hack/setup.sh test). Writes deploy/docs/page.png; where FOLDER is given, it goes there, with
others in the dark and on a narrow screen.
"""

import argparse
import contextlib
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from hack.browser import browser_in
from hack.lab import Lab
from hack.lab.kproxy import METRICS_PORT
from tests.kit.apiserver.objects import endpoint, make_node, make_service, make_slice, service_port, slice_port

DOCS = Path(__file__).parent.parent / "deploy/docs"
POINTS = 24
"""How many counts the small plots show."""
_PATIENCE_MS = 120_000
_WIDE = {1280: 760, 360: 340}
"""How wide the picture of a Service is, in its own units."""
_PODS = ("web-1", "web-2", "web-3", "cart-1", "search-1", "search-2", "visitor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where all of them go")
    folder = parser.parse_args(arguments).folder
    with Lab() as lab, tempfile.TemporaryDirectory() as scratch:
        for name in _PODS:
            lab.add_pod(name, "node-b" if name.endswith(("2", "3")) else "node-a").serve(8080)
        (Path(scratch) / "shop.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": shop(lab)}))
        kproxy = lab.node.start_kproxy(
            manifests=Path(scratch), args=["--state-directory", str(lab.folder / "state"), "--proxy-mode", "nftables"]
        )
        kproxy.wait_ready(60)
        with clients(lab), browser_page(lab) as page:
            pictures(page, folder)
    return 0


def shop(lab: Lab) -> list[dict[str, Any]]:
    """Services of which some serve and some do not."""

    def ends(*names: str, **conditions: Any) -> list[dict[str, Any]]:
        return [endpoint(lab.pod(name).ip, node=lab.pod(name).node.name, **conditions) for name in names]

    def served(name: str, number: int, *places: dict[str, Any], port: str = "http", **more: Any) -> Iterator[Any]:
        node_port = more.pop("node_port", None)
        kind = "NodePort" if node_port else "ClusterIP"
        ports = [service_port(80, name="http", target_port=8080, node_port=node_port)]
        yield make_service(name, "shop", cluster_ip=f"10.96.0.{number}", ports=ports, type=kind, spec=more)
        yield make_slice(name, "shop", endpoints=list(places), ports=[slice_port(8080, name=port)])

    return [
        make_node("node-a", addresses=[lab.node.ip]),
        *served(
            "web", 80, *ends("web-1", "web-2", "web-3"), *ends("cart-1", ready=False), node_port=30080,
            externalIPs=["198.51.100.80"],
        ),
        *served("cart", 81, *ends("cart-1")),
        *served("search", 82, *ends("search-1", "search-2")),
        *served("coupon", 83, *ends("web-1"), port="web"),
        *served("stock", 84, *ends("web-2", ready=False)),
        *served("checkout", 85, *ends("web-3"), node_port=30085, externalTrafficPolicy="Local"),
    ]  # fmt: skip


@contextlib.contextmanager
def clients(lab: Lab) -> Iterator[None]:
    """Have pods and people ask the shop, some more often than others."""
    visitor = lab.pod("visitor")
    loads = [
        visitor.load("10.96.0.80", 80, every=0.02),
        visitor.load("10.96.0.82", 80, every=0.1),
        visitor.load("10.96.0.81", 80, every=0.3),
        visitor.load("10.96.0.84", 80, every=0.5),
        lab.client.load(lab.node.ip, 30080, every=0.05),
    ]
    with contextlib.ExitStack() as running:
        for load in loads:
            running.enter_context(load)
        yield


@contextlib.contextmanager
def browser_page(lab: Lab) -> Iterator[Page]:
    """Open the page in a browser that runs on the node, where metrics are served."""
    with browser_in(lab.node.namespace) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(f"http://{lab.node.ip}:{METRICS_PORT}/")
        yield page


def pictures(page: Page, folder: Path | None) -> None:
    """Wait until there is something to see, and take the pictures."""
    page.get_by_role("button", name="shop/web").click()
    plot = page.locator("#rows [data-id='shop/web'] .plot path").last
    expect(plot).to_have_attribute("d", _points(POINTS), timeout=_PATIENCE_MS)
    page.locator("#to").fill("shop/coupon")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#answer")).to_contain_text("no port named")
    target = folder or DOCS
    target.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target / "page.png", full_page=True)
    if folder is None:
        return
    for number, (scheme, width) in enumerate(itertools.product(("dark", "light"), (1280, 360))):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 860})
        expect(page.locator("#detail .scene")).to_have_attribute("viewBox", re.compile(rf"^0 0 {_WIDE[width]} "))
        page.screenshot(path=folder / f"page-{number}-{scheme}-{width}.png", full_page=True)


def _points(number: int) -> re.Pattern[str]:
    return re.compile(rf"^M[^L]+(L[^L]+){{{number},}}$")


if __name__ == "__main__":
    sys.exit(main())
