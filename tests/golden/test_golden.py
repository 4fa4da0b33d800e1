"""kproxy's rules are kube-proxy's, word for word: recordings of kube-proxy v1.36.2 against what kproxy renders."""

from pathlib import Path

import pytest

from kproxy.api.manifests import combine, read_file
from kproxy.config import read_config_file
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.state.model import IPFamily
from kproxy.tools.render import find_node, plan_objects, render_plan
from tests.kit.iptables.text import comparable, parse_tables

GOLDEN = Path(__file__).parent
SCENARIOS = sorted(path.parent.name for path in GOLDEN.glob("*/objects.json"))
SUFFIX = {IPFamily.IPV4: "v4", IPFamily.IPV6: "v6"}
INTERFACES = ("127.0.0.1", "::1", "10.0.0.1", "fd00:a::1", "192.168.77.6")
"""What the recorded node's interfaces carry, as golden/README.md says."""


def rendered(scenario: Path, family: IPFamily) -> str:
    config = read_config_file(str(scenario / "config.yaml"))
    path = scenario / "objects.json"
    objects = combine({str(path): read_file(path)}, config.node_name).objects
    node = node_facts(config.node_name, find_node(objects, config.node_name), interface_addresses=INTERFACES)
    plan, problems = plan_objects(objects, family, proxy_settings(config), node)
    assert problems == ()
    return render_plan(plan)


def test_all_recordings_are_here() -> None:
    assert len(SCENARIOS) == 39


@pytest.mark.parametrize("family", list(IPFamily))
@pytest.mark.parametrize("name", SCENARIOS)
def test_rules_are_those_of_kube_proxy(name: str, family: IPFamily) -> None:
    recording = (GOLDEN / name / f"iptables.{SUFFIX[family]}.save").read_text()
    ours = rendered(GOLDEN / name, family)
    assert comparable(parse_tables(ours)) == comparable(parse_tables(recording))


def test_comparison_sees_a_changed_rule() -> None:
    recording = (GOLDEN / "clusterip-tcp" / "iptables.v4.save").read_text()
    for old, new in (
        ("--dport 80", "--dport 81"),
        ("-j MARK --set-xmark 0x4000/0x4000", "-j MARK --set-xmark 0x8000/0x8000"),
        ("! -s 10.244.0.0/16", "-s 10.244.0.0/16"),
        ("0.50000000000", "0.49999000000"),
    ):
        assert old in recording
        assert comparable(parse_tables(recording)) != comparable(parse_tables(recording.replace(old, new)))
