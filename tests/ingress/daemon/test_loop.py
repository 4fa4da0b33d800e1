"""The loop by itself: when it acts, and what failures do to it."""

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager

import pytest

from kproxy.api.kinds import ObjectKind
from kproxy.api.manifests import combine, read_manifest
from kproxy.api.types import ObjectKey, Problem
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.daemon import loop as module
from kproxy.ingress.daemon.loop import Loop
from kproxy.ingress.haproxy.engine import ApplyReport
from kproxy.ingress.haproxy.errors import EngineError
from kproxy.ingress.haproxy.refusals import Refused
from kproxy.ingress.plan.model import Bind, Plan
from kproxy.ingress.plan.planner import HttpPlanner, Planned
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.plan.world import World
from kproxy.proxier.inbox import Inbox
from kproxy.proxier.pacing import Pacer
from tests.ingress.haproxy.kit import ingress, slices
from tests.ingress.kit import OFFLINE, secret, shop
from tests.kit.waiting import eventually, running

TLS = shop({"shop.example.com": {"/": "web"}})


class FakeEngine:
    """Takes plans; fails as often as it is told."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.failures: list[Exception] = []
        self.refused: list[Refused] = []
        self.forgiving = False

    def apply(self, plan: Plan) -> ApplyReport:
        if self.failures:
            raise self.failures.pop(0)
        self.plans.append(plan)
        return ApplyReport(refused=tuple(self.refused))

    def tidy(self) -> int:
        return 0

    def forgive(self) -> bool:
        return self.forgiving

    @property
    def hosts(self) -> set[str]:
        if not self.plans:
            return set()
        listeners = [one for frontend in self.plans[-1].frontends for one in frontend.listeners]
        return {str(host.pattern) for one in listeners for host in one.hosts}


class FakeSecrets:
    def __init__(self) -> None:
        self.named: frozenset[ObjectKey] = frozenset()
        self.secrets_settled = True

    def name_secrets(self, keys: Iterable[ObjectKey]) -> None:
        self.named = frozenset(keys)


class Heard:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.failed_with: list[str] = []
        self.in_force = 0
        self.turns = 0

    def skipped(self, problems: Collection[Problem]) -> None: ...

    def queued(self, since: float) -> None: ...

    def applied(self, planned: Planned, report: ApplyReport, seconds: float, since: float | None) -> None:
        del planned, report, seconds, since
        self.in_force += 1

    def failed(self, error: Exception, seconds: float) -> None:
        del seconds
        self.failed_with.append(str(error))

    def settled(self, world: World, planned: Planned, kinds: frozenset[ObjectKind]) -> None: ...

    def turned(self) -> None:
        self.turns += 1


class Rig:
    """A loop with everything around it."""

    def __init__(self, secrets: FakeSecrets | None = None, settings: PlanSettings = OFFLINE) -> None:
        self.engine, self.inbox, self.heard = FakeEngine(), Inbox(), Heard()
        self.planner = HttpPlanner(settings)
        self.loop = Loop(self.planner, self.engine, self.inbox, Pacer(1.0), self.heard, secrets)

    def deliver(self, *documents: str, without: Collection[ObjectKind] = ()) -> None:
        manifest = read_manifest("\n---\n".join(documents).encode(), "test.yaml", IngressKind)
        for kind, objects in combine({"test.yaml": manifest}, None, IngressKind).objects.items():
            if kind not in without:
                self.inbox.replace(kind, objects)

    def running(self) -> AbstractContextManager[None]:
        return running(self.loop.run, self.loop.stop)


def test_nothing_is_applied_before_all_kinds_have_come() -> None:
    rig = Rig()
    with rig.running():
        rig.deliver(slices("web", ["10.0.0.1"]), ingress("a.example.com", "web"), without=[IngressKind.ENDPOINT_SLICE])
        eventually(lambda: rig.heard.turns > 1)
        assert not rig.engine.plans
        rig.deliver(slices("web", ["10.0.0.1"]), ingress("a.example.com", "web"))
        eventually(lambda: rig.engine.hosts == {"a.example.com"})


def test_a_failure_is_told_and_tried_again() -> None:
    rig = Rig()
    rig.engine.failures = [EngineError("no room"), EngineError("no room")]
    with rig.running():
        rig.deliver(slices("web", ["10.0.0.1"]), ingress("a.example.com", "web"))
        eventually(lambda: rig.engine.hosts == {"a.example.com"})
    assert rig.heard.failed_with == ["no room", "no room"]
    assert rig.heard.in_force == 1


def test_what_nobody_has_foreseen_ends_nothing() -> None:
    rig = Rig()
    rig.engine.failures = [KeyError("a mistake of ours")]
    with rig.running():
        rig.deliver(slices("web", ["10.0.0.1"]), ingress("a.example.com", "web"))
        eventually(lambda: rig.engine.hosts == {"a.example.com"})
    assert rig.heard.failed_with == ["'a mistake of ours'"]


def test_a_plan_that_is_the_same_is_not_applied_again() -> None:
    rig = Rig()
    with rig.running():
        rig.deliver(slices("web", ["10.0.0.1"]), ingress("a.example.com", "web"))
        eventually(lambda: rig.engine.plans)
        rig.inbox.delete(IngressKind.ENDPOINT_SLICE, ObjectKey("default", "nobody"))
        eventually(lambda: rig.heard.in_force == 2)
        assert len(rig.engine.plans) == 1
        rig.loop.resync()
        eventually(lambda: len(rig.engine.plans) == 2)


def test_a_plan_waits_for_the_secrets_that_it_is_the_first_to_name() -> None:
    secrets = FakeSecrets()
    secrets.secrets_settled = False
    rig = Rig(secrets)
    with rig.running():
        rig.deliver(slices("web", ["10.0.0.1"]), TLS)
        eventually(lambda: secrets.named == {ObjectKey("default", "shop-tls")})
        turns = rig.heard.turns
        eventually(lambda: rig.heard.turns > turns + 3)
        assert not rig.engine.plans
        rig.deliver(slices("web", ["10.0.0.1"]), TLS, secret("shop-tls"))
        secrets.secrets_settled = True
        eventually(lambda: rig.engine.plans)
    assert ObjectKey("default", "shop-tls") in rig.engine.plans[0].certificates


def test_it_does_not_wait_for_secrets_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_SECRETS_SECONDS", 0.1)
    secrets = FakeSecrets()
    secrets.secrets_settled = False
    rig = Rig(secrets)
    with rig.running():
        rig.deliver(slices("web", ["10.0.0.1"]), TLS)
        eventually(lambda: rig.engine.hosts == {"shop.example.com"})


def test_an_address_that_is_free_again_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGIVE_SECONDS", 0.05)
    rig = Rig()
    rig.engine.refused = [Refused(Bind("", 80), "taken")]
    with rig.running():
        rig.deliver(slices("web", ["10.0.0.1"]), ingress("a.example.com", "web"))
        eventually(lambda: len(rig.engine.plans) == 1)
        rig.engine.forgiving = True
        eventually(lambda: len(rig.engine.plans) >= 2)
