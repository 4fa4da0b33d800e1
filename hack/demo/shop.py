"""The shop's side of the demo: its pods in the lab, and its manifests, which the demo changes as a cluster would."""

import shutil
from pathlib import Path
from typing import NamedTuple

import yaml

from hack.lab import Lab

MANIFESTS = Path(__file__).parent / "shop"


class PodSpec(NamedTuple):
    """A pod of the shop. `ip` is what the manifests say."""

    name: str
    node: str
    ip: str
    port: int
    protocol: str = "TCP"


PODS = (
    PodSpec("web-1", "node-a", "10.244.0.11", 8080),
    PodSpec("web-2", "node-a", "10.244.0.12", 8080),
    PodSpec("web-3", "node-b", "10.244.1.11", 8080),
    PodSpec("cart-1", "node-a", "10.244.0.21", 9000),
    PodSpec("cart-2", "node-b", "10.244.1.21", 9000),
    PodSpec("stock-1", "node-b", "10.244.1.31", 5300, "UDP"),
)
WEB_PODS = ("web-1", "web-2", "web-3")
CART_PODS = ("cart-1", "cart-2")

WEB, WEB_PORT, WEB_NODE_PORT = "10.96.0.80", 80, 30080
CART6, CART_PORT = "fd00:10:96::20", 9000
STOCK, STOCK_PORT = "10.96.0.30", 5300
SEARCH, SEARCH_PORT = "10.96.0.40", 80


def open_shop(lab: Lab) -> Path:
    """Start the shop's pods. Returns a copy of its manifests that may be changed."""
    for spec in PODS:
        lab.add_pod(spec.name, spec.node, spec.ip).serve(spec.port, spec.protocol)
    return Path(shutil.copytree(MANIFESTS, lab.folder / "shop"))


def take_out(manifests: Path, service: str, ip: str) -> None:
    """Strike an endpoint from a service's slices, as Kubernetes does before it stops the pod.

    The file is replaced in one step, so that nobody reads half of it.
    """
    file = manifests / f"{service}.yaml"
    documents = list(yaml.safe_load_all(file.read_text()))
    for document in documents:
        if document["kind"] == "EndpointSlice":
            document["endpoints"] = [each for each in document["endpoints"] if ip not in each["addresses"]]
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump_all(documents))
    new.replace(file)
