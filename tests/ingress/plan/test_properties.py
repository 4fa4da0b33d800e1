"""What holds for any set of objects: order means nothing, a plan is whole, one bad object changes no other."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.ingress.plan.matching import PathKind
from kproxy.ingress.plan.model import Plan
from kproxy.ingress.plan.precedence import host_rank
from kproxy.ingress.plan.walk import Request, find
from tests.ingress.gateways import gateway, route
from tests.ingress.kit import CLASSES, planned, service
from tests.kit.examples import chances, scaled
from tests.kit.yaml_text import to_yaml

HOSTS = ["a.com", "x.a.com", "y.x.a.com", "*.a.com", "*.x.a.com", ""]
PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c"]
STAMPS = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
SERVICES = tuple(map(service, ("s0", "s1", "s2")))


@st.composite
def ingresses(draw: st.DrawFn, name: str) -> str:
    paths = st.fixed_dictionaries(
        {
            "path": st.sampled_from(PATHS),
            "pathType": st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"]),
            "backend": st.sampled_from([{"service": {"name": f"s{i}", "port": {"number": 80}}} for i in range(4)]),
        }
    )
    rules = st.fixed_dictionaries(
        {
            "host": st.sampled_from(HOSTS),
            "http": st.fixed_dictionaries({"paths": st.lists(paths, min_size=1, max_size=3)}),
        }
    )
    spec: dict[str, Any] = {"rules": draw(st.lists(rules, max_size=3))}
    if draw(st.booleans()):
        spec["defaultBackend"] = {"service": {"name": "s0", "port": {"number": 80}}}
    metadata = {"name": name, "namespace": "default", "creationTimestamp": draw(st.sampled_from(STAMPS))}
    return to_yaml({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec})


@st.composite
def routes(draw: st.DrawFn, name: str) -> str:
    values = st.lists(
        st.fixed_dictionaries({"name": st.sampled_from("ab"), "value": st.sampled_from("12")}), max_size=2
    )
    paths = st.fixed_dictionaries({"type": st.sampled_from(["Exact", "PathPrefix"]), "value": st.sampled_from(PATHS)})
    matches = st.fixed_dictionaries(
        {"path": paths}, optional={"method": st.sampled_from(["GET", "POST"]), "headers": values, "queryParams": values}
    )
    rules = st.fixed_dictionaries(
        {
            "matches": st.lists(matches, min_size=1, max_size=3),
            "backendRefs": st.lists(
                st.fixed_dictionaries({"name": st.sampled_from(["s0", "s1", "missing"]), "port": st.just(80)}),
                max_size=2,
            ),
        }
    )
    return route(
        *draw(st.lists(rules, min_size=1, max_size=3)),
        name=name,
        hostnames=[host for host in draw(st.lists(st.sampled_from(HOSTS), max_size=2)) if host],
        created=draw(st.sampled_from(STAMPS)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> list[str]:
    listeners = draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True))
    gate = gateway(
        *({"name": f"l{number}"} | ({"hostname": host} if host else {}) for number, host in enumerate(listeners))
    )
    found = [draw(ingresses(name=f"i{number}")) for number in range(draw(st.integers(0, 3)))]
    found += [draw(routes(name=f"r{number}")) for number in range(draw(st.integers(0, 3)))]
    return [CLASSES, gate, *SERVICES, *found]


REQUESTS = [
    Request(host=host, path=path, method=method, headers=values, query=values)
    for host in ("a.com", "x.a.com", "y.x.a.com", "z.y.x.a.com", "b.com")
    for path in ("/", "/a", "/a/", "/a/b", "/ab", "/abc")
    for method, values in (("GET", {"a": "1", "b": "2"}), ("POST", {}))
]


def answers(plan: Plan) -> list[tuple[str, int]]:
    found = [find(plan, frontend, request) for frontend in plan.frontends for request in REQUESTS]
    return [(str(one.rule.key) if one.rule else "", one.status) for one in found]


@given(worlds(), chances)
@settings(max_examples=scaled(25), deadline=None)
def test_the_order_of_objects_means_nothing(documents: list[str], chance: random.Random) -> None:
    shuffled = chance.sample(documents, len(documents))
    assert planned(*documents).plan == planned(*shuffled).plan


@given(worlds())
@settings(max_examples=scaled(25), deadline=None)
def test_a_plan_is_in_order_and_whole(documents: list[str]) -> None:
    plan = planned(*documents).plan
    used = set()
    for frontend in plan.frontends:
        ranks = [host_rank(listener.pattern) for listener in frontend.listeners]
        assert ranks == sorted(set(ranks))
        for listener in frontend.listeners:
            ranks = [host_rank(host.pattern) for host in listener.hosts]
            assert ranks == sorted(set(ranks))
            for host in listener.hosts:
                matches = [item.match for item in host.routes]
                assert len(set(matches)) == len(matches)
                used |= {item.rule for item in host.routes}
                kinds = [match.path for match in matches]
                for early, late in itertools.pairwise(kinds):
                    if early.kind is PathKind.PREFIX:
                        assert late.kind is PathKind.PREFIX
                        assert len(early.value) >= len(late.value) or not late.value
    assert used == set(plan.rules)
    named = {choice.backend for rule in plan.rules.values() for choice in rule.backends if choice.backend}
    assert named == set(plan.backends)


BAD = [
    "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: A_B, namespace: default}\n"
    "spec: {defaultBackend: {service: {name: s0, port: {number: 80}}}}",
    "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: bad, namespace: default}\n"
    "spec: {rules: [{host: 'a b', http: {paths: [{path: /, pathType: Prefix}]}}], tls: [{secretName: '../x'}]}",
    "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: bad, namespace: default}\n"
    "spec: {rules: [{http: {paths: [{path: 'no slash', pathType: Prefix}]}}]}",
    route({"matches": [{"path": {"type": "Odd"}}]}, name="bad"),
    route(hostnames=["*"], name="bad"),
    route(name="b;a d"),
    gateway({"name": "l0", "protocol": "ODD"}, name="bad"),
    gateway({"name": "l0", "hostname": "#"}, name="bad"),
    gateway({"name": "http"}, name="b\tad"),
]


@given(worlds(), st.lists(st.sampled_from(BAD), min_size=1, max_size=1))
@settings(max_examples=scaled(25), deadline=None)
def test_one_bad_object_changes_nothing_for_the_others(documents: list[str], bad: Sequence[str]) -> None:
    without, with_it = planned(*documents), planned(*documents, *bad)
    assert with_it.plan == without.plan
    assert answers(with_it.plan) == answers(without.plan)
    assert len(with_it.problems) > len(without.problems)
