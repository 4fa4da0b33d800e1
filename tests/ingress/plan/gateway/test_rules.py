"""What the rules of HTTPRoutes do: filters, timeouts, backends with their weights, and what is left out of them."""

from typing import Any

import msgspec
import pytest

from kproxy.ingress.plan.action import (
    BackendKey,
    Header,
    HeaderChanges,
    Mirror,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Rewrite,
    Rule,
    Timeouts,
)
from kproxy.ingress.plan.gateway.verdicts import ACCEPTED, PARTIALLY_INVALID, RESOLVED_REFS
from kproxy.ingress.plan.model import BackendProtocol
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.gateways import gateway, grant, route, to
from tests.ingress.kit import CLASSES, ask, backend_of, planned, problems, route_conditions, rule_of, service

ALONE = PlanSettings(in_cluster=False, http_binds=(), https_binds=())
GATE = gateway({"name": "x"})


def plan_of(*rules: dict[str, Any], documents: tuple[str, ...] = (), settings: PlanSettings = ALONE) -> Planned:
    return planned(CLASSES, GATE, route(*rules), service("web"), *documents, settings=settings)


def only_rule(of: Planned, path: str = "/") -> Rule:
    found = ask(of, "a.com", path).rule
    assert found is not None
    return found


def said(of: Planned) -> dict[str, str]:
    return {kind: f"{one.status} {one.reason}" for kind, one in route_conditions(of, "route").items()}


# --- filters ---------------------------------------------------------------------------------------------------------


def filtered(kind: str, field: str, value: dict[str, Any], path: str = "") -> dict[str, Any]:
    return to("web", path=path, filters=[{"type": kind, field: value}])


@pytest.mark.parametrize(
    ("kind", "field", "attribute"),
    [
        ("RequestHeaderModifier", "requestHeaderModifier", "request_headers"),
        ("ResponseHeaderModifier", "responseHeaderModifier", "response_headers"),
    ],
)
def test_headers(kind: str, field: str, attribute: str) -> None:
    changes = {
        "set": [{"name": "X-Set", "value": "a"}, {"name": "x-set", "value": "ignored"}],
        "add": [{"name": "X-Add", "value": "b, c"}],
        "remove": ["X-Remove", "x-remove"],
    }
    assert getattr(only_rule(plan_of(filtered(kind, field, changes))), attribute) == HeaderChanges(
        set=(Header("X-Set", "a"),), add=(Header("X-Add", "b, c"),), remove=("X-Remove",)
    )


@pytest.mark.parametrize(
    ("value", "redirect"),
    [
        ({}, Redirect()),
        ({"hostname": "Example.org", "statusCode": 301}, Redirect(host="example.org", code=301)),
        ({"scheme": "https"}, Redirect(scheme="https", port=443)),
        ({"scheme": "http"}, Redirect(scheme="http", port=80)),
        ({"scheme": "https", "port": 8443, "statusCode": 308}, Redirect(scheme="https", port=8443, code=308)),
        ({"port": 8080}, Redirect(port=8080)),
        (
            {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/full"}, "statusCode": 303},
            Redirect(path=ReplaceFullPath("/full"), code=303),
        ),
        (
            {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new/"}, "statusCode": 307},
            Redirect(path=ReplacePrefix("/old", "/new"), code=307),
        ),
    ],
)
def test_redirects(value: dict[str, Any], redirect: Redirect) -> None:
    plan = plan_of(filtered("RequestRedirect", "requestRedirect", value, path="/old"))
    assert only_rule(plan, "/old").redirect == redirect
    assert only_rule(plan, "/old").backends == ()
    assert ask(plan, "a.com", "/old").status == 0


@pytest.mark.parametrize(
    ("value", "rewrite"),
    [
        ({"hostname": "new.example.org"}, Rewrite(host="new.example.org")),
        ({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/one"}}, Rewrite(path=ReplaceFullPath("/one"))),
        (
            {"hostname": "b.org", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
            Rewrite(host="b.org", path=ReplacePrefix("/old", "")),
        ),
    ],
)
def test_rewrites(value: dict[str, Any], rewrite: Rewrite) -> None:
    plan = plan_of(filtered("URLRewrite", "urlRewrite", value, path="/old/"))
    assert only_rule(plan, "/old").rewrite == rewrite


@pytest.mark.parametrize(
    ("path", "prefix", "replacement", "result"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
        ("/", "/", "/xyz", "/xyz/"),
    ],
)
def test_replaced_prefixes(path: str, prefix: str, replacement: str, result: str) -> None:
    value = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}}
    rewrite = only_rule(plan_of(filtered("URLRewrite", "urlRewrite", value, path=prefix)), path).rewrite
    assert rewrite is not None
    assert isinstance(rewrite.path, ReplacePrefix)
    assert rewrite.path.apply(path) == result


def test_each_match_of_a_rule_replaces_its_own_prefix() -> None:
    rule = filtered(
        "URLRewrite", "urlRewrite", {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}
    ) | {"matches": [{"path": {"value": "/one"}}, {"path": {"value": "/two/more"}}]}
    plan = plan_of(rule)
    assert rule_of(plan, "h", "/one") == "HTTPRoute/default/route/0"
    assert rule_of(plan, "h", "/two/more") == "HTTPRoute/default/route/0.1"
    assert only_rule(plan, "/two/more").rewrite == Rewrite(path=ReplacePrefix("/two/more", "/new"))


def test_mirrors_where_the_engine_can() -> None:
    target = {"backendRef": {"name": "copy", "port": 80}}
    rule = to("web", filters=[
        {"type": "RequestMirror", "requestMirror": target},
        {"type": "RequestMirror", "requestMirror": target | {"percent": 20}},
        {"type": "RequestMirror", "requestMirror": target | {"fraction": {"numerator": 5, "denominator": 1000}}},
        {"type": "RequestMirror", "requestMirror": target | {"percent": 0}},
    ])  # fmt: skip
    can = msgspec.structs.replace(ALONE, mirrors=True)
    plan = plan_of(rule, documents=(service("copy"),), settings=can)
    key = BackendKey("default", "copy", 80)
    assert only_rule(plan).mirrors == (
        Mirror(backend=key),
        Mirror(backend=key, numerator=20),
        Mirror(backend=key, numerator=5, denominator=1000),
    )
    assert key in plan.plan.backends
    assert said(plan_of(rule, documents=(service("copy"),)))[ACCEPTED] == "False UnsupportedValue"


def test_changes_of_headers_for_one_backend() -> None:
    set_header = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "A", "value": "1"}]}}
    rule = {"backendRefs": [{"name": "web", "port": 80, "filters": [set_header]}]}
    assert only_rule(plan_of(rule)).backends[0].request_headers == HeaderChanges(set=(Header("A", "1"),))


def test_a_filter_of_somebody_else_must_not_be_skipped() -> None:
    extension = {"type": "ExtensionRef", "extensionRef": {"group": "x.io", "kind": "Auth", "name": "x"}}
    plan = plan_of(to("web", path="/secret", filters=[extension]), to("web"))
    assert backend_of(plan, "h", "/secret") == "500"
    assert backend_of(plan, "h", "/") == "default/web:80"
    assert said(plan) == {ACCEPTED: "True Accepted", RESOLVED_REFS: "False InvalidKind"}


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("10s", 10_000), ("500ms", 500), ("1m30s", 90_000), ("1h1m1s1ms", 3_661_001), ("0s", 0)],
)
def test_timeouts(text: str, milliseconds: int) -> None:
    assert only_rule(plan_of(to("web", timeouts={"request": text}))).timeouts == Timeouts(request=milliseconds)
    assert only_rule(plan_of(to("web", timeouts={"backendRequest": text}))).timeouts == Timeouts(
        backend_request=milliseconds
    )


# --- what cannot be --------------------------------------------------------------------------------------------------

BAD = [
    {"matches": [{"path": {"type": "Glob", "value": "/x"}}]},
    {"matches": [{"path": {"value": "x"}}]},
    {"matches": [{"path": {"value": "/x//y"}}]},
    {"matches": [{"path": {"type": "RegularExpression", "value": "/(x"}}]},
    {"matches": [{"method": "FETCH"}]},
    {"matches": [{"headers": [{"name": "a b", "value": "x"}]}]},
    {"matches": [{"headers": [{"name": "a", "value": "x\ny"}]}]},
    {"matches": [{"headers": [{"name": "a", "value": "x", "type": "Glob"}]}]},
    {"matches": [{"queryParams": [{"name": "a", "value": "(", "type": "RegularExpression"}]}]},
    {"filters": [{"type": "Nonsense"}]},
    {"filters": [{"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP"}}]},
    {"filters": [{"type": "CORS", "cors": {"allowOrigins": ["shop.example.com"]}}]},
    {"filters": [{"type": "CORS", "cors": {"allowOrigins": ["https://a.example.com/path"]}}]},
    {"filters": [{"type": "CORS", "cors": {"allowMethods": ["GET", "*"]}}]},
    {"filters": [{"type": "CORS", "cors": {"allowMethods": ["get it"]}}]},
    {"filters": [{"type": "CORS", "cors": {"allowHeaders": ["a b"]}}]},
    {"filters": [{"type": "CORS", "cors": {"exposeHeaders": ["a\r\nb"]}}]},
    {"filters": [{"type": "CORS", "cors": {"maxAge": 0}}]},
    {"retry": {"codes": [418]}},
    {"retry": {"attempts": -1}},
    {"retry": {"attempts": 1000}},
    {"retry": {"attempts": 2, "backoff": "1s"}},
    {"sessionPersistence": {"sessionName": "x"}},
    {"filters": [{"type": "RequestHeaderModifier"}]},
    {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a:", "value": "x"}]}}]},
    {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "\r"}]}}]},
    {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["Transfer-Encoding"]}}]},
    {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {
        "set": [{"name": "a", "value": "x"}], "remove": ["A"]}}]},
    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "ftp"}}]},
    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 200}}]},
    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"port": 70000}}]},
    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "*.a.com"}}]},
    {"filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "a b"}}]},
    {"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath"}}}]},
    {"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "Odd"}}}]},
    {"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/?"}}}]},
    {"matches": [{"path": {"type": "Exact", "value": "/x"}}], "filters": [{"type": "URLRewrite", "urlRewrite": {
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/y"}}}]},
    {"timeouts": {"request": "10"}},
    {"timeouts": {"request": "1s", "backendRequest": "2s"}},
    {"backendRefs": [{"name": "web", "port": 80, "weight": -1}]},
    {"backendRefs": [{"name": "web", "port": 80, "filters": [{"type": "RequestMirror"}]}]},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_rule_that_cannot_be_done_is_dropped_and_the_others_hold(bad: dict[str, Any]) -> None:
    plan = plan_of(to("web", path="/good"), to("web") | bad)
    assert rule_of(plan, "h", "/good") == "HTTPRoute/default/route/0"
    assert [str(key) for key in plan.plan.rules] == ["HTTPRoute/default/route/0"]
    assert said(plan)[ACCEPTED] == "True Accepted"
    assert said(plan)[PARTIALLY_INVALID] == "True UnsupportedValue"
    assert route_conditions(plan, "route")[PARTIALLY_INVALID].message.startswith("Dropped Rule 1 (")
    assert any(problem.startswith("HTTPRoute default/route: spec.rules[1]: ") for problem in problems(plan))


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_route_of_nothing_else_is_not_accepted(bad: dict[str, Any]) -> None:
    plan = plan_of(to("web") | bad)
    assert said(plan)[ACCEPTED].startswith("False ")
    assert PARTIALLY_INVALID not in said(plan)
    assert not plan.plan.rules
    assert plan.gateways.gateways[0].listeners[0].attached == 0


def test_filters_that_contradict_each_other() -> None:
    filters = [{"type": "RequestRedirect", "requestRedirect": {}}, {"type": "URLRewrite", "urlRewrite": {}}]
    assert said(plan_of(to("web", filters=filters)))[ACCEPTED] == "False IncompatibleFilters"
    twice = [{"type": "URLRewrite", "urlRewrite": {}}] * 2
    assert said(plan_of(to("web", filters=twice)))[ACCEPTED] == "False IncompatibleFilters"


# --- backends --------------------------------------------------------------------------------------------------------


def test_weights() -> None:
    refs = [{"name": name, "port": 80} | ({} if weight is None else {"weight": weight})
            for name, weight in (("web", 70), ("two", 30), ("idle", 0), ("plain", None), ("none", 2))]  # fmt: skip
    plan = plan_of({"backendRefs": refs}, documents=tuple(map(service, ("two", "idle", "plain"))))
    assert [(choice.backend and choice.backend.service, choice.weight) for choice in only_rule(plan).backends] == [
        ("web", 70),
        ("two", 30),
        ("plain", 1),
        (None, 2),
    ]
    assert BackendKey("default", "idle", 80) not in plan.plan.backends


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ({"name": "none", "port": 80}, "BackendNotFound"),
        ({"name": "web", "port": 81}, "BackendNotFound"),
        ({"name": "web"}, "BackendNotFound"),
        ({"name": "web", "port": 80, "kind": "Pod"}, "InvalidKind"),
        ({"name": "web", "port": 80, "group": "unknown.example.com", "kind": "NonExistent"}, "InvalidKind"),
        ({"name": "web", "port": 80, "namespace": "other"}, "RefNotPermitted"),
        ({"name": "tls", "port": 80}, "UnsupportedProtocol"),
        ({"name": "outside", "port": 80}, "UnsupportedProtocol"),
    ],
)
def test_references_that_lead_nowhere(ref: dict[str, Any], reason: str) -> None:
    outside = """
        apiVersion: v1
        kind: Service
        metadata: {name: outside, namespace: default}
        spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
    """
    documents = (service("web", "other"), service("tls", extra=", appProtocol: https"), outside)
    plan = plan_of({"backendRefs": [ref]}, documents=documents)
    assert said(plan) == {ACCEPTED: "True Accepted", RESOLVED_REFS: f"False {reason}"}
    assert backend_of(plan, "h") == "500"


@pytest.mark.parametrize(
    ("granted", "answer"),
    [
        (grant(of="default", kind="HTTPRoute", to_kind="Service", namespace="other"), "other/web:80"),
        (grant(of="default", kind="HTTPRoute", to_kind="Service", namespace="other", name="web"), "other/web:80"),
        (grant(of="default", kind="HTTPRoute", to_kind="Service", namespace="other", name="x"), "500"),
        (grant(of="default", kind="GRPCRoute", to_kind="Service", namespace="other"), "500"),
        (grant(of="elsewhere", kind="HTTPRoute", to_kind="Service", namespace="other"), "500"),
        (grant(of="default", kind="HTTPRoute", to_kind="Service", namespace="default"), "500"),
    ],
)
def test_backends_of_other_namespaces_need_a_grant(granted: str, answer: str) -> None:
    ref = {"name": "web", "namespace": "other", "port": 80}
    plan = plan_of({"backendRefs": [ref]}, documents=(service("web", "other"), granted))
    assert backend_of(plan, "h") == answer


def test_no_backends_at_all() -> None:
    assert backend_of(plan_of({"backendRefs": []}), "h") == "500"
    assert said(plan_of({"backendRefs": []})) == {ACCEPTED: "True Accepted", RESOLVED_REFS: "True ResolvedRefs"}


@pytest.mark.parametrize(
    ("app_protocol", "protocol"),
    [
        ("", BackendProtocol.HTTP),
        ("http", BackendProtocol.HTTP),
        ("kubernetes.io/h2c", BackendProtocol.H2C),
        ("grpc", BackendProtocol.H2C),
        ("kubernetes.io/ws", BackendProtocol.WEBSOCKET),
        ("example.com/own", BackendProtocol.HTTP),
    ],
)
def test_what_backends_speak(app_protocol: str, protocol: BackendProtocol) -> None:
    extra = f", appProtocol: {app_protocol}" if app_protocol else ""
    plan = plan_of(to("api"), documents=(service("api", extra=extra),))
    assert plan.plan.backends[BackendKey("default", "api", 80)].protocol is protocol
