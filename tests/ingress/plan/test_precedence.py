"""Which of several matches takes a request: within a rule, across rules, across routes and across hosts."""

import itertools
from typing import Any

import pytest

from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import CLASSES, backend_of, planned, rule_of, service

ALONE = PlanSettings(in_cluster=False, http_binds=(), https_binds=())
GATE = gateway({"name": "x"})


def path(kind: str, value: str) -> dict[str, Any]:
    return {"path": {"type": kind, "value": value}}


def header(name: str, value: str, kind: str = "Exact") -> dict[str, str]:
    return {"type": kind, "name": name, "value": value}


RANKED = [
    path("Exact", "/v1/users"),
    path("RegularExpression", "/v[0-9]/users"),
    path("PathPrefix", "/v1/users/"),
    path("PathPrefix", "/v1") | {"method": "GET"},
    path("PathPrefix", "/v1") | {"headers": [header("a", "1"), header("b", "2")]},
    path("PathPrefix", "/v1") | {"headers": [header("a", "1")], "queryParams": [header("q", "1"), header("r", "1")]},
    path("PathPrefix", "/v1") | {"headers": [header("a", "1")], "queryParams": [header("q", "1")]},
    path("PathPrefix", "/v1") | {"queryParams": [header("q", "1"), header("r", "1")]},
    path("PathPrefix", "/v1"),
    {},
]
REQUEST: dict[str, Any] = {"headers": {"A": "1", "B": "2"}, "query": {"q": "1", "r": "1"}}


@pytest.mark.parametrize("count", range(len(RANKED)))
@pytest.mark.parametrize("turned", [False, True])
def test_the_match_that_asks_most_wins_across_rules(count: int, *, turned: bool) -> None:
    left = RANKED[count:]
    rules = [{"matches": [match], "backendRefs": [{"name": "web", "port": 80}]} for match in left]
    plan = planned(CLASSES, GATE, route(*(reversed(rules) if turned else rules)), service("web"), settings=ALONE)
    best = len(left) - 1 if turned else 0
    assert rule_of(plan, "any.com", "/v1/users", **REQUEST) == f"HTTPRoute/default/route/{best}"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_match_that_asks_most_wins_across_routes(order: tuple[int, ...]) -> None:
    matches = [RANKED[2], RANKED[4], RANKED[8]]
    routes = [
        route(
            {"matches": [matches[index]], "backendRefs": [{"name": "web", "port": 80}]},
            name=f"r{index}",
            created=f"2026-01-0{9 - position}T00:00:00Z",
        )
        for position, index in enumerate(order)
    ]
    plan = planned(CLASSES, GATE, *routes, service("web"), settings=ALONE)
    assert rule_of(plan, "any.com", "/v1/users", **REQUEST) == "HTTPRoute/default/r0/0"
    assert rule_of(plan, "any.com", "/v1", **REQUEST) == "HTTPRoute/default/r1/0"
    assert rule_of(plan, "any.com", "/v1") == "HTTPRoute/default/r2/0"


def test_of_equal_matches_the_oldest_routes_wins_then_the_first_by_name_then_the_first_rule() -> None:
    rule = to("web", path="/x")
    old, new = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
    newer_and_older = (route(rule, name="a", created=new), route(rule, name="b", created=old))
    assert rule_of(planned(CLASSES, GATE, *newer_and_older, settings=ALONE), "h", "/x") == "HTTPRoute/default/b/0"
    same = (route(rule, name="b", created=old), route(rule, name="a", created=old))
    assert rule_of(planned(CLASSES, GATE, *same, settings=ALONE), "h", "/x") == "HTTPRoute/default/a/0"
    namespaces = (
        route(rule, name="a", namespace="z", parents=[{"name": "gw", "namespace": "default"}]),
        route(rule, name="b", namespace="y", parents=[{"name": "gw", "namespace": "default"}]),
    )
    assert rule_of(planned(CLASSES, GATE, *namespaces, settings=ALONE), "h", "/x") == "HTTPRoute/y/b/0"
    assert rule_of(planned(CLASSES, GATE, route(rule, rule), settings=ALONE), "h", "/x") == "HTTPRoute/default/route/0"


def test_the_more_specific_host_goes_before_the_more_specific_path() -> None:
    plan = planned(
        CLASSES,
        GATE,
        route({"matches": [path("Exact", "/a/b")]} | to("long"), name="any"),
        route(to("wild", path="/a"), name="wild", hostnames=["*.a.com"]),
        route(to("wilder", path="/a"), name="wilder", hostnames=["*.x.a.com"]),
        route(to("exact", path="/a"), name="exact", hostnames=["x.a.com"]),
        *map(service, ("long", "wild", "wilder", "exact")),
        settings=ALONE,
    )
    assert backend_of(plan, "x.a.com", "/a/b") == "default/exact:80"
    assert backend_of(plan, "y.x.a.com", "/a/b") == "default/wilder:80"
    assert backend_of(plan, "y.a.com", "/a/b") == "default/wild:80"
    assert backend_of(plan, "b.com", "/a/b") == "default/long:80"


def test_what_no_rule_of_the_more_specific_host_matches_goes_to_the_less_specific_one() -> None:
    plan = planned(
        CLASSES,
        GATE,
        route(to("wild"), name="wild", hostnames=["*.a.com"]),
        route(to("exact", path="/only"), name="exact", hostnames=["x.a.com"]),
        *map(service, ("wild", "exact")),
        settings=ALONE,
    )
    assert backend_of(plan, "x.a.com", "/only") == "default/exact:80"
    assert backend_of(plan, "x.a.com", "/other") == "default/wild:80"


@pytest.mark.parametrize(
    ("match", "request_", "matches"),
    [
        ({}, {}, True),
        (path("PathPrefix", "/v2/"), {"path": "/v2"}, True),
        (path("PathPrefix", "/v2"), {"path": "/v2/x"}, True),
        (path("PathPrefix", "/v2"), {"path": "/v2x"}, False),
        (path("Exact", "/one"), {"path": "/one/"}, False),
        (path("RegularExpression", "/(cat|dog)s?"), {"path": "/dogs"}, True),
        (path("RegularExpression", "/(cat|dog)s?"), {"path": "/dogs/x"}, False),
        ({"method": "POST"}, {"method": "POST"}, True),
        ({"method": "POST"}, {"method": "GET"}, False),
        ({"headers": [header("Version", "one")]}, {"headers": {"version": "one"}}, True),
        ({"headers": [header("Version", "one")]}, {"headers": {"version": "ONE"}}, False),
        ({"headers": [header("Version", "one")]}, {}, False),
        ({"headers": [header("v", "o[a-z]+", "RegularExpression")]}, {"headers": {"v": "one"}}, True),
        ({"headers": [header("v", "o[a-z]", "RegularExpression")]}, {"headers": {"v": "one"}}, False),
        ({"headers": [header("v", "1"), header("V", "2")]}, {"headers": {"v": "1"}}, True),
        ({"queryParams": [header("animal", "whale")]}, {"query": {"animal": "whale"}}, True),
        ({"queryParams": [header("animal", "whale")]}, {"query": {"animal": "whales"}}, False),
        ({"queryParams": [header("animal", "whale")]}, {"query": {"Animal": "whale"}}, False),
        ({"queryParams": [header("a", "1"), header("a", "2")]}, {"query": {"a": "1"}}, True),
        ({"queryParams": [header("a", "1"), header("b", "2")]}, {"query": {"a": "1"}}, False),
    ],
)
def test_one_match(match: dict[str, Any], request_: dict[str, Any], *, matches: bool) -> None:
    rule = {"matches": [match], "backendRefs": [{"name": "web", "port": 80}]}
    plan = planned(CLASSES, GATE, route(rule), service("web"), settings=ALONE)
    assert rule_of(plan, "a.com", **request_) == ("HTTPRoute/default/route/0" if matches else "404")


def test_a_rule_matches_by_any_of_its_matches() -> None:
    rule = {"matches": [path("Exact", "/a") | {"headers": [header("v", "2")]}, path("PathPrefix", "/v2")]} | to("web")
    plan = planned(CLASSES, GATE, route(rule), service("web"), settings=ALONE)
    assert rule_of(plan, "h", "/v2/x") == rule_of(plan, "h", "/a", headers={"v": "2"}) == "HTTPRoute/default/route/0"
    assert rule_of(plan, "h", "/a") == "404"


def test_a_route_without_rules_takes_everything_and_has_nowhere_to_send_it() -> None:
    assert rule_of(planned(CLASSES, GATE, route(), settings=ALONE), "h", "/x") == "HTTPRoute/default/route/0"
    assert backend_of(planned(CLASSES, GATE, route(), settings=ALONE), "h", "/x") == "500"
