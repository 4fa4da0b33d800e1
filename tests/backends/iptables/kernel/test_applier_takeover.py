"""kproxy takes over from a running kube-proxy in place: what is the same already is not touched."""

import re

import pytest

from kproxy.api.manifests import combine, read_file
from kproxy.backends.iptables.compile.compiler import compile_plan
from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.firewall import LOCALNET_GUARD
from kproxy.backends.iptables.rules.names import KUBE_FIREWALL
from kproxy.backends.iptables.rules.ruleset import RuleSet
from kproxy.config import read_config_file
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.state.model import IPFamily
from kproxy.tools.render import find_node, plan_objects
from tests.golden.test_golden import GOLDEN, INTERFACES, SCENARIOS, SUFFIX
from tests.kit.iptables.applier import Node, node

__all__ = ["node"]

_TO_LEAVE_OUT = re.compile(r" -m nfacct --nfacct-name +\S+| --mask 255\.255\.255\.255")
_PER_SERVICE = re.compile(r"\[5:300\] -A KUBE-(SVC|SVL|SEP|EXT|FW)-")


def compiled(scenario: str, family: IPFamily) -> RuleSet:
    folder = GOLDEN / scenario
    config = read_config_file(str(folder / "config.yaml"))
    objects = combine({"objects": read_file(folder / "objects.json")}, config.node_name).objects
    facts = node_facts(config.node_name, find_node(objects, config.node_name), interface_addresses=INTERFACES)
    plan, _ = plan_objects(objects, family, proxy_settings(config), facts)
    return compile_plan(plan)


def recording(scenario: str, family: IPFamily) -> str:
    """kube-proxy's rules, each with counters.

    Without nfacct, which the kernel would want set up first, and as kube-proxy writes it without the mask of recent
    lists, of which iptables, if it is given, fills only the first of four words.
    """
    text = (GOLDEN / scenario / f"iptables.{SUFFIX[family]}.save").read_text()
    lines = [line for line in text.splitlines() if "localhost_nps_accepted_pkts" not in line]
    counted = [f"[5:300] {line}" if line.startswith("-A") else line for line in lines]
    return _TO_LEAVE_OUT.sub("", "\n".join([*counted, ""]))


def test_the_guard_that_cleanup_knows_is_the_one_that_is_written() -> None:
    assert compiled("nodeport-cluster", IPFamily.IPV4).filter.chains[KUBE_FIREWALL] == (LOCALNET_GUARD,)


@pytest.mark.kernel
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_rules_that_are_right_already_stay_as_they_are(node: Node, scenario: str) -> None:
    node.restore(recording(scenario, node.family), "--counters")
    before = {line for line in node.saved(counters=True) if _PER_SERVICE.match(line)}
    assert (
        before
        or (node.variant, node.family) == (Variant.NFT, IPFamily.IPV6)
        or "KUBE-SVC" not in recording(scenario, node.family)
    )  # ip6tables-nft-restore 1.8.9 does not take counters
    ruleset = compiled(scenario, node.family)
    node.applier.reconcile(ruleset)
    after = node.saved(counters=True)
    assert before <= set(after)
    assert [re.sub(r"^\[\d+:\d+\] ", "", line) for line in after if line.startswith("[")] == [
        line for line in node.rendered(ruleset) if line.startswith("-A")
    ]
    assert not [line for line in after if "CANARY" in line]
