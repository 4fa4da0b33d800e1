"""The shop of the later chapters: two nodes of the lab, its pods, and its manifests where commands are typed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hack.lab import Lab
from hack.tour.guide import Background, Guide
from hack.tour.world import WholeWorld

HERE = Path(__file__).parent
ITEM_PODS = {
    "item-1": ("node-a", "10.244.0.11"),
    "item-2": ("node-a", "10.244.0.12"),
    "item-3": ("node-b", "10.244.1.11"),
}
ITEM, ITEM_PORT, ITEM_NODE_PORT, ITEM_EXTERNAL = "10.96.0.80", 80, 30080, "203.0.113.80"
POD_PORT = 8080
ORDER = "10.244.0.31"
RUN = """\
ip netns exec node-a kproxy run --manifests shop \\
    --hostname-override node-a --cluster-cidr 10.244.0.0/16"""


class Shop(NamedTuple):
    """What the steps play on. `manifests` may be changed."""

    lab: Lab
    manifests: Path


@contextmanager
def opened(guide: Guide) -> Iterator[Shop]:
    """The lab with the pods item-1 to item-3, which serve, and order, which asks; the manifests in ``shop/``."""
    with Lab(lease=whole_world()) as lab:
        for name, (node, ip) in ITEM_PODS.items():
            lab.add_pod(name, node, ip).serve(POD_PORT)
        lab.add_pod("order", "node-a", ORDER)
        yield Shop(lab, Path(shutil.copytree(HERE / "shop", guide.folder / "shop")))


def whole_world() -> WholeWorld:
    """The lease of a chapter's lab."""
    lease = WholeWorld()
    lease.folder.mkdir()
    return lease


def start_kproxy(guide: Guide) -> Background:
    """Start kproxy on node-a, and wait until its rules are in the kernel."""
    kproxy = guide.start(RUN)
    guide.wait(lambda: "synced family=ipv4" in kproxy.log(), "kproxy to write its rules", kproxy)
    return kproxy
