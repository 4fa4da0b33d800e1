"""Which listeners an HTTPRoute attaches to, by which hosts, and what it is told."""

from typing import Any

import pytest

from kproxy.ingress.plan.gateway.verdicts import ACCEPTED, RESOLVED_REFS
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import CLASSES, backend_of, frontend, planned, route_conditions, secret, service

ALONE = PlanSettings(in_cluster=False, http_binds=(), https_binds=())
NAMESPACES = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {team: red, tier: front}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: blue}}
"""


def said(of: Planned, name: str = "route") -> dict[str, str]:
    return {kind: f"{one.status} {one.reason}" for kind, one in route_conditions(of, name).items()}


def attached(of: Planned) -> dict[str, int]:
    return {one.name: one.attached for verdict in of.gateways.gateways for one in verdict.listeners}


TWO = ({"name": "a", "hostname": "a.com"}, {"name": "b", "hostname": "b.com", "port": 8080})


@pytest.mark.parametrize(
    ("parent", "where", "accepted"),
    [
        ({}, {"a", "b"}, "True Accepted"),
        ({"sectionName": "a"}, {"a"}, "True Accepted"),
        ({"port": 8080}, {"b"}, "True Accepted"),
        ({"sectionName": "b", "port": 8080}, {"b"}, "True Accepted"),
        ({"sectionName": "b", "port": 80}, set(), "False NoMatchingParent"),
        ({"sectionName": "c"}, set(), "False NoMatchingParent"),
        ({"port": 81}, set(), "False NoMatchingParent"),
        (
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"},
            {"a", "b"},
            "True Accepted",
        ),
    ],
)
def test_parent_references(parent: dict[str, Any], where: set[str], accepted: str) -> None:
    plan = planned(
        CLASSES, gateway(*TWO), route(to("web"), parents=[{"name": "gw"} | parent]), service("web"), settings=ALONE
    )
    assert said(plan) == {ACCEPTED: accepted, RESOLVED_REFS: "True ResolvedRefs"}
    assert attached(plan) == {"a": int("a" in where), "b": int("b" in where)}
    assert backend_of(plan, "a.com") == ("default/web:80" if "a" in where else "404")
    assert backend_of(plan, "b.com", port=8080) == ("default/web:80" if "b" in where else "404")


@pytest.mark.parametrize(
    "parent",
    [
        {"name": "missing"},
        {"name": "gw", "namespace": "other"},
        {"name": "gw", "kind": "Service", "group": ""},
        {"name": "gw", "group": "example.com"},
        {"name": "theirs"},
    ],
)
def test_of_a_parent_that_is_not_ours_nothing_is_said(parent: dict[str, Any]) -> None:
    theirs = gateway({"name": "x"}, name="theirs", gatewayClassName="other")
    plan = planned(
        CLASSES, gateway({"name": "x"}), theirs, route(to("web"), parents=[parent]), service("web"), settings=ALONE
    )
    assert not plan.gateways.routes
    assert not plan.plan.rules


def test_several_parents_are_told_apart() -> None:
    plan = planned(
        CLASSES,
        gateway(*TWO),
        route(to("web"), parents=[{"name": "gw", "sectionName": "a"}, {"name": "gw", "sectionName": "none"}]),
        service("web"),
        settings=ALONE,
    )
    (verdict,) = plan.gateways.routes
    assert [(one.parent.section_name, one.conditions[ACCEPTED].reason) for one in verdict.parents] == [
        ("a", "Accepted"),
        ("none", "NoMatchingParent"),
    ]


def test_a_route_that_refers_twice_to_one_listener_counts_once() -> None:
    parents: list[dict[str, Any]] = [{"name": "gw", "sectionName": "a"}, {"name": "gw", "port": 80}]
    plan = planned(CLASSES, gateway(*TWO), route(to("web"), parents=parents), service("web"), settings=ALONE)
    assert attached(plan) == {"a": 1, "b": 0}
    assert len(frontend(plan).listeners[0].hosts[0].routes) == 1


def selector(**labels: str) -> dict[str, Any]:
    return {"from": "Selector", "selector": {"matchLabels": labels}}


def expression(operator: str, *values: str, key: str = "team") -> dict[str, Any]:
    requirement: dict[str, Any] = {"key": key, "operator": operator} | ({"values": list(values)} if values else {})
    return {"from": "Selector", "selector": {"matchExpressions": [requirement]}}


@pytest.mark.parametrize(
    ("allowed", "namespace", "allows"),
    [
        (None, "default", True),
        (None, "shop", False),
        ({}, "shop", False),
        ({"from": "Same"}, "default", True),
        ({"from": "Same"}, "shop", False),
        ({"from": "All"}, "shop", True),
        (selector(team="blue"), "shop", True),
        (selector(team="blue"), "default", False),
        (selector(**{"kubernetes.io/metadata.name": "shop"}), "shop", True),
        (selector(**{"kubernetes.io/metadata.name": "unseen"}), "unseen", True),
        ({"from": "Selector", "selector": {}}, "shop", True),
        ({"from": "Selector"}, "shop", False),
        (expression("In", "blue", "green"), "shop", True),
        (expression("In", "red"), "shop", False),
        (expression("NotIn", "red"), "shop", True),
        (expression("NotIn", "red"), "unseen", True),
        (expression("Exists", key="tier"), "default", True),
        (expression("Exists", key="tier"), "shop", False),
        (expression("DoesNotExist", key="tier"), "shop", True),
    ],
)
def test_namespaces_that_routes_may_come_from(allowed: dict[str, Any] | None, namespace: str, *, allows: bool) -> None:
    listener = {"name": "x", "allowedRoutes": {"namespaces": allowed} if allowed is not None else {}}
    plan = planned(
        CLASSES,
        NAMESPACES,
        gateway(listener),
        route(to("web"), namespace=namespace, parents=[{"name": "gw", "namespace": "default"}]),
        service("web", namespace),
        settings=ALONE,
    )
    assert said(plan) == {
        ACCEPTED: "True Accepted" if allows else "False NotAllowedByListeners",
        RESOLVED_REFS: "True ResolvedRefs",
    }
    assert attached(plan) == {"x": int(allows)}


def test_a_listener_of_another_protocol_takes_no_http_routes() -> None:
    tls = {"name": "tls", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
    plan = planned(CLASSES, gateway(tls), route(to("web")), service("web"), settings=ALONE)
    assert said(plan) == {ACCEPTED: "False NotAllowedByListeners", RESOLVED_REFS: "True ResolvedRefs"}


def test_routes_attach_to_a_listener_that_cannot_be_served() -> None:
    broken = {"name": "x", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "missing"}]}}
    plan = planned(CLASSES, gateway(broken), route(to("missing")), settings=ALONE)
    assert said(plan) == {ACCEPTED: "True Accepted", RESOLVED_REFS: "False BackendNotFound"}
    assert attached(plan) == {"x": 1}
    assert not plan.plan.frontends


# --- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listener", "names", "common"),
    [
        ("", [], ["*"]),
        ("", ["a.com", "*.b.com"], ["a.com", "*.b.com"]),
        ("a.com", [], ["a.com"]),
        ("a.com", ["a.com", "b.com"], ["a.com"]),
        ("x.a.com", ["*.a.com"], ["x.a.com"]),
        ("x.y.a.com", ["*.a.com"], ["x.y.a.com"]),
        ("*.a.com", [], ["*.a.com"]),
        ("*.a.com", ["x.a.com", "x.y.a.com", "a.com", "x.b.com"], ["x.a.com", "x.y.a.com"]),
        ("*.a.com", ["*.a.com"], ["*.a.com"]),
        ("*.a.com", ["*.x.a.com"], ["*.x.a.com"]),
        ("*.x.a.com", ["*.a.com"], ["*.x.a.com"]),
        ("*.a.com", ["*.b.com", "*.aa.com", "*.com.a"], []),
        ("a.com", ["*.a.com"], []),
        ("*.a.com", ["A.A.COM"], ["a.a.com"]),
        ("", ["bad host", "a.com"], ["a.com"]),
    ],
)
def test_hosts_in_common(listener: str, names: list[str], common: list[str]) -> None:
    of = {"name": "x"} | ({"hostname": listener} if listener else {})
    plan = planned(CLASSES, gateway(of), route(to("web"), hostnames=names), service("web"), settings=ALONE)
    assert [str(host.pattern) for host in frontend(plan).listeners[0].hosts] == sorted(
        common, key=lambda x: x[0] == "*"
    )
    assert said(plan)[ACCEPTED] == ("True Accepted" if common else "False NoMatchingListenerHostname")
    assert attached(plan) == {"x": int(bool(common))}


def test_a_route_of_bad_hosts_alone_is_not_accepted() -> None:
    plan = planned(CLASSES, gateway({"name": "x"}), route(to("web"), hostnames=["10.0.0.1"]), settings=ALONE)
    assert said(plan)[ACCEPTED] == "False UnsupportedValue"


INTERSECTION = (
    {"name": "one", "hostname": "very.specific.com"},
    {"name": "two", "hostname": "*.wildcard.io"},
    {"name": "three", "hostname": "*.anotherwildcard.io"},
)


@pytest.mark.parametrize(
    ("host", "path", "answer"),
    [
        ("very.specific.com", "/s1", "s1"),
        ("very.specific.com:1234", "/s1", "s1"),
        ("non.matching.com", "/s1", "404"),
        ("foo.wildcard.io", "/s1", "404"),
        ("very.specific.com", "/none", "404"),
        ("foo.wildcard.io", "/s2", "s2"),
        ("foo.bar.wildcard.io", "/s2", "s2"),
        ("baz.wildcard.io", "/s2", "404"),
        ("wildcard.io", "/s2", "404"),
        ("very.specific.com", "/s3", "s3"),
        ("foo.specific.com", "/s3", "404"),
        ("foo.bar.anotherwildcard.io", "/s4", "s4"),
        ("anotherwildcard.io", "/s4", "404"),
    ],
)
def test_requests_where_hosts_intersect(host: str, path: str, answer: str) -> None:
    hosts = {
        "s1": ["non.matching.com", "*.nonmatchingwildcard.io", "very.specific.com"],
        "s2": ["non.matching.com", "wildcard.io", "foo.wildcard.io", "foo.bar.wildcard.io"],
        "s3": ["non.matching.com", "*.specific.com"],
        "s4": ["*.anotherwildcard.io"],
    }
    plan = planned(
        CLASSES,
        gateway(*INTERSECTION),
        *(route(to(name, path=f"/{name}"), name=name, hostnames=names) for name, names in hosts.items()),
        *map(service, hosts),
        settings=ALONE,
    )
    assert backend_of(plan, host, path) == (f"default/{answer}:80" if answer != "404" else answer)


def test_listeners_are_isolated_from_each_other() -> None:
    plan = planned(
        CLASSES,
        gateway({"name": "any"}, {"name": "wild", "hostname": "*.a.com"}, {"name": "exact", "hostname": "x.a.com"}),
        *(route(to(name), name=name, parents=[{"name": "gw", "sectionName": name}]) for name in ("any", "wild")),
        *map(service, ("any", "wild")),
        settings=ALONE,
    )
    assert backend_of(plan, "b.com") == "default/any:80"
    assert backend_of(plan, "y.a.com") == "default/wild:80"
    assert backend_of(plan, "x.a.com") == "404"


@pytest.mark.parametrize(
    ("name", "host", "answer"),
    [
        ("example.org", "example.org", "one"),
        ("example.org", "second-example.org", "421"),
        ("example.org", "unknown.org", "one"),
        ("second-example.org", "second-example.org", "two"),
        ("second-example.org", "example.org", "421"),
        ("third.wildcard.org", "fifth.wildcard.org", "three"),
        ("third.wildcard.org", "fourth.wildcard.org", "421"),
        ("fourth.wildcard.org", "fourth.wildcard.org", "four"),
        ("fourth.wildcard.org", "fifth.wildcard.org", "421"),
    ],
)
def test_requests_on_a_connection_that_was_opened_for_another_listener_are_misdirected(
    name: str, host: str, answer: str
) -> None:
    hosts = {"one": "", "two": "second-example.org", "three": "*.wildcard.org", "four": "fourth.wildcard.org"}
    listeners = [
        {"name": listener, "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}}
        | ({"hostname": pattern} if pattern else {})
        for listener, pattern in hosts.items()
    ]
    plan = planned(
        CLASSES,
        gateway(*listeners),
        *(route(to(one), name=one, parents=[{"name": "gw", "sectionName": one}]) for one in hosts),
        *map(service, hosts),
        secret("cert"),
        settings=ALONE,
    )
    expected = answer if answer.isdecimal() else f"default/{answer}:80"
    assert backend_of(plan, host, port=443, server_name=name) == expected
