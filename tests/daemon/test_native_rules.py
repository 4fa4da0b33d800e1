"""Native rules of nftables in the tables of iptables' nft variant, which can't read them: kproxy copes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.lab import Lab, until
from tests.daemon.test_limits import write
from tests.kit.packets import PATIENCE

pytestmark = pytest.mark.kernel

MASQUERADE = "nat POSTROUTING oifname eth9 masquerade"
NATIVE = {family: f"add rule {family} {MASQUERADE}" for family in ("ip", "ip6")}
FILTER = "add rule ip filter INPUT ct state vmap { invalid : drop }"


@pytest.fixture
def served(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A folder of manifests whose rules kproxy has written in the nft variant, and left."""
    write(tmp_path / "objects", 3, "10.244.0.11")
    kproxy = lab.node.start_kproxy(manifests=tmp_path / "objects", args=["--iptables-variant", "nft"])
    kproxy.wait_ready(PATIENCE)
    assert kproxy.stop() == 0
    assert len(chains(lab)) > 10
    yield tmp_path / "objects"
    lab.node.run(["nft", "flush", "ruleset"])
    lab.node.clean_up()


def chains(lab: Lab) -> list[str]:
    """kproxy's chains in both tables of both families."""
    listed = lab.node.run(["nft", "list", "ruleset"]).stdout.splitlines()
    return [line.split()[1] for line in listed if line.strip().startswith("chain KUBE-")]


def native(lab: Lab, *rules: str) -> None:
    for rule in rules:
        lab.node.run(["nft", rule])


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("rules", [[NATIVE["ip"]], [*NATIVE.values(), FILTER]], ids=["one table", "all tables"])
def test_cleanup_takes_kproxys_and_leaves_the_native(lab: Lab, rules: list[str]) -> None:
    native(lab, *rules)
    lab.node.clean_up()
    assert chains(lab) == []
    left = lab.node.run(["nft", "list", "ruleset"]).stdout
    assert left.count("masquerade") == sum("masquerade" in rule for rule in rules)
    assert "KUBE-" not in left


def test_the_way_out_is_named_and_leads_there(lab: Lab, served: Path) -> None:
    native(lab, NATIVE["ip"])
    kproxy = lab.node.start_kproxy(manifests=served, args=["--iptables-variant", "nft"])
    assert kproxy.process.wait(PATIENCE) == 1
    (line,) = [line for line in kproxy.log().splitlines() if " error " in line]
    assert "--proxy-mode nftables" in line
    kproxy = lab.node.start_kproxy(manifests=served, args=["--proxy-mode", "nftables"])
    kproxy.wait_ready(PATIENCE)
    until(lambda: not chains(lab), PATIENCE, "the rules of the other mode to go")
    assert kproxy.stop() == 0
    assert "Traceback" not in kproxy.log()
