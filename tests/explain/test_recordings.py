"""Every recording of kube-proxy: what kproxy explains of the objects is what packets meet in kube-proxy's own rules."""

from collections.abc import Iterator
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given

from kproxy.api.manifests import combine, read_file
from kproxy.backends.iptables.rules.render import render_ruleset
from kproxy.backends.packet import Outcome, Packet, World, without_memory
from kproxy.config import read_config_file
from kproxy.explain.answer import explain
from kproxy.explain.decision import decide
from kproxy.explain.model import Verdict
from kproxy.explain.question import ask
from kproxy.explain.view import View
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.state.model import IPFamily, endpoint_text
from kproxy.tools.render import find_node
from tests.backends.nftables.test_properties import reaching
from tests.golden.test_golden import GOLDEN, INTERFACES, SCENARIOS, SUFFIX
from tests.kit.examples import chances
from tests.kit.iptables.saved import saved_tables, walk_saved
from tests.kit.semantics import examples
from tests.kit.semantics.builds import BUILDS, Build
from tests.kit.semantics.cluster import Cluster, clusters
from tests.kit.views import view_of

TOLERANCE = Fraction(1, 2**28)
SENDERS = {
    IPFamily.IPV4: {"10.244.0.20": "cni0", "10.244.1.20": "eth0", "192.0.2.7": "eth0", "10.0.0.1": "", "127.0.0.1": ""},
    IPFamily.IPV6: {"fd00:244::20": "cni0", "fd00:244:0:1::20": "eth0", "2001:db8:c::7": "eth0", "fd00:a::1": ""},
}


def view(name: str, family: IPFamily) -> View:
    config = read_config_file(str(GOLDEN / name / "config.yaml"))
    path = GOLDEN / name / "objects.json"
    objects = combine({str(path): read_file(path)}, config.node_name).objects
    facts = node_facts(config.node_name, find_node(objects, config.node_name), interface_addresses=INTERFACES)
    return view_of(objects, family, proxy_settings(config), facts, frozenset(INTERFACES))


def packets(seen: View) -> Iterator[Packet]:
    """Yield packets of everybody to every frontend, and to a port beside each."""
    node = seen.facts.ips.get(seen.family, "10.0.0.1" if seen.family is IPFamily.IPV4 else "fd00:a::1")
    for met in seen.frontends():
        for port in (met.frontend.port, met.frontend.port + 1):
            for source, interface in SENDERS[seen.family].items():
                yield Packet(source, met.frontend.ip or node, port, met.service.name.protocol, interface)


def alike(found: dict[Outcome, Fraction], wanted: dict[Outcome, Fraction]) -> bool:
    return found.keys() == wanted.keys() and all(abs(found[key] - wanted[key]) < TOLERANCE for key in found)


@pytest.mark.parametrize("family", list(IPFamily))
@pytest.mark.parametrize("name", SCENARIOS)
def test_explain_says_what_kube_proxy_s_rules_do(name: str, family: IPFamily) -> None:
    seen = view(name, family)
    tables = saved_tables((GOLDEN / name / f"iptables.{SUFFIX[family]}.save").read_text(), family)
    world = World(seen.addresses)
    for packet in packets(seen):
        walk = walk_saved(tables, packet, world)
        assert not walk.doubts, packet
        outcomes = without_memory(walk.found)
        assert alike(decide(seen, packet, world).outcomes(), outcomes), packet
        told = explain([seen], ask(endpoint_text(packet.destination, packet.port), sender=packet.source,
                                   protocol=packet.protocol))  # fmt: skip
        shares = {one.address: one.share for one in told.endpoints if one.share}
        there = {outcome.to: float(chance) for outcome, chance in outcomes.items()}
        if told.verdict is Verdict.FORWARD:
            assert shares == pytest.approx(there, abs=1e-6), packet
        else:
            assert {"reject": "refused", "drop": "dropped", "none": "untouched"}[told.verdict] in there, packet


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(20)
@given(cluster=clusters(), chance=chances)
def test_rendered_rules_do_what_explain_says(build: Build, cluster: Cluster, chance: Random) -> None:
    """From the plan to text and back: what people read is what is explained."""
    seen = view_of(cluster.objects(), cluster.family, cluster.settings, cluster.facts, cluster.world.own_addresses)
    ruleset = build.compile(seen.plan)
    tables = saved_tables(render_ruleset(ruleset, cluster.family), cluster.family)
    possible = reaching(cluster)
    for packet in chance.sample(possible, min(20, len(possible))):
        walk = walk_saved(tables, packet, cluster.world)
        assert not walk.doubts, packet
        assert alike(decide(seen, packet, cluster.world).outcomes(), without_memory(walk.found)), packet
