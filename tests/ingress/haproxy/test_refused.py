"""One bad object never keeps the others out: what HAProxy refuses is found, left out and named."""

from pathlib import Path

import msgspec
import pytest

from kproxy.api.types import ObjectKey
from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.errors import EngineError, NoHAProxyError
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.matching import Match, PathKind, PathMatch
from kproxy.ingress.plan.model import Bind, Plan
from tests.ingress.haproxy.kit import engine, get, ingress, slices
from tests.ingress.haproxy.test_tls import secured, shown
from tests.ingress.kit import planned, secret

pytestmark = pytest.mark.kernel

BASE = [slices("web", ["10.1.0.1"]), ingress("good.example.com", "web"), ingress("bad.example.com", "web")]


def with_bad_expression(plan: Plan, name: str) -> Plan:
    """Return the plan with a regular expression of an Ingress that only HAProxy finds wrong."""
    key = RuleKey("Ingress", "default", name, 0)
    bad = Match(path=PathMatch(PathKind.REGEX, "(" if name.startswith("bad") else "^/$"))

    def changed(route: object) -> object:
        return msgspec.structs.replace(route, match=bad) if route.rule == key else route  # type: ignore[attr-defined, type-var]

    frontends = []
    for frontend in plan.frontends:
        listeners = [
            msgspec.structs.replace(
                listener,
                hosts=tuple(
                    msgspec.structs.replace(host, routes=tuple(map(changed, host.routes))) for host in listener.hosts
                ),
            )
            for listener in frontend.listeners
        ]
        frontends.append(msgspec.structs.replace(frontend, listeners=tuple(listeners)))
    return msgspec.structs.replace(plan, frontends=tuple(frontends))


@pytest.mark.usefixtures("three")
def test_a_rule_that_haproxy_refuses_is_left_out_and_named_until_it_is_mended(tmp_path: Path) -> None:
    with engine(tmp_path) as made:
        plan = planned(*BASE).plan
        bad = with_bad_expression(plan, "bad.example.com")
        (refused,) = made.apply(bad).refused
        assert refused.what == RuleKey("Ingress", "default", "bad.example.com", 0)
        assert "missing closing parenthesis" in refused.reason
        assert (get("good.example.com").status, get("bad.example.com").status) == (200, 404)
        again = made.apply(bad)
        assert (again.reloaded, [one.what for one in again.refused]) == (None, [refused.what])
        assert made.apply(plan).refused == []
        assert get("bad.example.com").status == 200


@pytest.mark.usefixtures("three")
def test_a_certificate_that_haproxy_refuses_is_left_out_and_named(tmp_path: Path) -> None:
    documents = [*BASE, secured("a.example.com", "a"), secret("a", host="a.example.com")]
    documents += [secured("b.example.com", "b"), secret("b", host="b.example.com")]
    plan = planned(*documents).plan
    key = ObjectKey("default", "b")
    broken = msgspec.structs.replace(
        plan.certificates[key], key_pem=plan.certificates[ObjectKey("default", "a")].key_pem
    )
    with engine(tmp_path) as made:
        (refused,) = made.apply(msgspec.structs.replace(plan, certificates={**plan.certificates, key: broken})).refused
        assert refused.what == key
        assert (shown("a.example.com"), shown("b.example.com")) == ("a.example.com", "")
        assert get("good.example.com").status == 200
        assert made.apply(plan).refused == []
        assert shown("b.example.com") == "b.example.com"


@pytest.mark.usefixtures("three")
def test_a_certificate_that_goes_bad_leaves_the_old_one_in_force_for_nobody_else(tmp_path: Path) -> None:
    documents = [*BASE, secured("a.example.com", "a"), secret("a", host="a.example.com")]
    plan = planned(*documents).plan
    key = ObjectKey("default", "a")
    broken = msgspec.structs.replace(plan.certificates[key], chain_pem="nothing of the kind")
    with engine(tmp_path) as made:
        made.apply(plan)
        (refused,) = made.apply(msgspec.structs.replace(plan, certificates={key: broken})).refused
        assert refused.what == key
        assert get("good.example.com").status == 200


@pytest.mark.usefixtures("three")
def test_an_address_that_this_machine_does_not_have_is_left_out_and_named(tmp_path: Path) -> None:
    plan = planned(*BASE).plan
    strange = Bind("203.0.113.1", 80)
    first = msgspec.structs.replace(plan.frontends[0], binds=(Bind("", 80), strange))
    with engine(tmp_path) as made:
        (refused,) = made.apply(msgspec.structs.replace(plan, frontends=(first, *plan.frontends[1:]))).refused
        assert refused.what == strange
        assert refused.reason == "cannot listen at 203.0.113.1:80: Cannot assign requested address"
        assert get("good.example.com").status == 200


def test_without_haproxy_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoHAProxyError, match="apt-get install haproxy"):
        Engine(EngineSettings(state_dir=str(tmp_path)), program="haproxy-nowhere")


def test_without_a_writable_folder_the_remedy_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = Engine(EngineSettings(state_dir=str(tmp_path / "file" / "state")))
    with pytest.raises(EngineError, match="--state-dir"):
        made.apply(Plan())
