"""How many rules a new connection walks through to its endpoint, on average, by the number of endpoints.

    python -m hack.bench.walk
    python -m hack.bench.walk --sizes 1x10 1x5000

Nothing is timed: the number follows from the compiled rules, weighed by the chance that a packet gets to each of them.
One service with that many endpoints; the yardstick is the classic layout, which is kube-proxy's.
"""

from collections.abc import Mapping, Sequence

import msgspec

from hack.bench import options as common
from hack.bench.report import Figure, ratio, report_of
from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.iptables.compile.compiler import compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules.names import cluster_chain
from kproxy.backends.iptables.rules.ruleset import Chain, Jump, Random
from kproxy.node.facts import node_facts
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import make_service, make_slice

DEFAULTS = common.Defaults(("1x1", "1x10", "1x100", "1x1000", "1x5000"), tuple(Layout), 1, ("1x10",), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    options = common.parse(common.parser("walk", __doc__, DEFAULTS), arguments)
    report = report_of(options)
    report.table(
        "Rules walked from the service's chain to the endpoint's address", "endpoints", "layout", "rules", "ratio"
    )
    for _, endpoints in options.sizes:
        classic = walk(endpoints, Layout.CLASSIC)
        for mode in options.modes:
            rules = walk(endpoints, Layout(mode))
            report.row(endpoints, mode, Figure(rules, "", 1), ratio(rules, classic))


def walk(endpoints: int, layout: Layout) -> float:
    """Return the mean number of rules from the service's own chain to the endpoint's address."""
    tracker = Tracker(IPFamily.IPV4, "node-a")
    ips = [f"10.244.{number // 250}.{number % 250 + 1}" for number in range(endpoints)]
    tracker.update_service(msgspec.convert(make_service("web"), Service))
    tracker.update_slice(msgspec.convert(make_slice("web", endpoints=ips, node="node-b"), EndpointSlice))
    planner = Planner(ProxySettings(), node_facts("node-a", None), tracker)
    (name,) = planner.update(tracker.pending)
    return _rules_walked(compile_plan(planner.plan, layout).nat.chains, cluster_chain(name))


def _rules_walked(chains: Mapping[str, Chain], chain: str) -> float:
    walked, here = 0.0, 1.0
    for rule in chains[chain]:
        walked += here
        if rule.source is not None:  # the hairpin rule, which is for one client only
            continue
        taken = here
        for match in rule.matches:
            if isinstance(match, Random):
                taken *= match.threshold / Random.ONE
        if isinstance(rule.target, Jump):
            walked += taken * _rules_walked(chains, rule.target.chain)
        here -= taken
    return walked


if __name__ == "__main__":
    main()
