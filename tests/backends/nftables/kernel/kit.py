"""What tests of the applier share: two services, and a plan of any applied."""

from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.backends.nftables.compile.compiler import compile_plan
from kproxy.backends.nftables.rules.ruleset import RuleSet
from kproxy.plan.model import ServicePlan
from tests.kit.nft import named, plan_of, pods, service

WEB = service("web", 10, pods(1, 2, 3))
STICKY = service("sticky", 11, pods(4, 5), affinity_seconds=600)
NAMES = ("web", "sticky", "other")


def put(backend: NftablesBackend, *services: ServicePlan, full: bool = False) -> RuleSet:
    """Apply a plan of these services, telling the backend that any may have changed."""
    plan = plan_of(*services)
    report = backend.apply(plan, {named(name) for name in NAMES} | plan.services.keys(), full=full)
    assert not report.refused
    return compile_plan(plan)
