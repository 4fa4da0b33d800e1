"""What rules do to requests and answers: header changes, rewrites, redirects, weights, time limits."""

import collections
import re

import pytest

from kproxy.ingress.haproxy.engine import Engine, render
from tests.ingress.gateways import route
from tests.ingress.haproxy.kit import Pod, get, slices
from tests.ingress.kit import CLASSES, planned

pytestmark = pytest.mark.kernel

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gate, namespace: default}
spec:
  gatewayClassName: kproxy
  listeners: [{name: http, port: 8000, protocol: HTTP}, {name: any, port: 8001, protocol: HTTP}]
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: default}
spec:
  parentRefs: [{name: gate, sectionName: http}]
  hostnames: [w.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /headers}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Set, value: 'a%b "c" $HOME #d \\e'}, {name: X-Empty, value: ""}]
        add: [{name: X-Add, value: second}]
        remove: [X-Gone]
    - type: ResponseHeaderModifier
      responseHeaderModifier:
        set: [{name: X-Pod, value: "hidden"}]
        add: [{name: X-More, value: "%[env(HOME)]"}]
        remove: [Server]
    backendRefs: [{name: web, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /old/prefix}}]
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: inner.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /n%20w}}
    backendRefs: [{name: web, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /strip}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: web, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /full}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}]
    backendRefs: [{name: web, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /away}}]
    filters:
    - type: RequestRedirect
      requestRedirect:
        {hostname: other.example.com, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /to}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Why, value: moved}]}}
  - matches: [{path: {type: PathPrefix, value: /secure}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
  - matches: [{path: {type: PathPrefix, value: /port}}]
    filters: [{type: RequestRedirect, requestRedirect: {port: 9000}}]
  - matches: [{path: {type: PathPrefix, value: /weights}}]
    backendRefs:
    - {name: web, port: 80, weight: 3}
    - {name: api, port: 80, weight: 1}
    - {name: nobody, port: 80, weight: 0}
  - matches: [{path: {type: PathPrefix, value: /halfbad}}]
    backendRefs: [{name: web, port: 80}, {name: nosuch, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /bad}}]
    backendRefs: [{name: nosuch, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /empty}}]
    backendRefs: [{name: empty, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /each}}, {path: {type: PathPrefix, value: /each/one}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: rule.example.com}}]
    backendRefs:
    - name: web
      port: 80
      filters:
      - type: URLRewrite
        urlRewrite: {hostname: one.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /r}}
    - {name: api, port: 80}
    - name: slow
      port: 80
      filters: [{type: RequestRedirect, requestRedirect: {hostname: away.example.com, statusCode: 307}}]
  - matches: [{path: {type: PathPrefix, value: /quick}}]
    timeouts: {request: 300ms}
    backendRefs: [{name: slow, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: anyhost, namespace: default}
spec:
  parentRefs: [{name: gate, sectionName: any}]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]
"""


@pytest.fixture(scope="module", autouse=True)
def applied(running: Engine, three: dict[str, Pod]) -> None:
    three["c"].delay_s = 1.0
    services = [slices("web", ["10.1.0.1"]), slices("api", ["10.1.0.2"]), slices("slow", ["10.1.0.3"])]
    made = planned(CLASSES, GATEWAY, ROUTE, slices("empty", []), *services)
    report = running.apply(made.plan)
    assert not report.refused


def test_headers_of_the_request_are_set_added_and_removed() -> None:
    sent = {"X-Set": "old", "X-Add": "first", "X-Gone": "yes", "X-Kept": "yes", "X-Empty": "full"}
    answer = get("w.example.com", "/headers", port=8000, headers=sent)
    seen = [tuple(one) for one in answer.seen["headers"]]
    assert ("x-set", 'a%b "c" $HOME #d \\e') in seen
    assert [value for name, value in seen if name == "x-add"] == ["first", "second"]
    assert ("x-empty", "") in seen
    assert ("x-kept", "yes") in seen
    assert not [value for name, value in seen if name == "x-gone"]


def test_headers_of_the_answer_are_set_added_and_removed() -> None:
    answer = get("w.example.com", "/headers", port=8000)
    assert answer.headers["x-pod"] == "hidden"
    assert answer.headers["x-more"] == "%[env(HOME)]"  # what a stranger writes is no expression
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("/old/prefix", "/n%20w"),
        ("/old/prefix/", "/n%20w/"),
        ("/old/prefix/a/b?c=d", "/n%20w/a/b?c=d"),
        ("/strip", "/"),
        ("/strip/", "/"),
        ("/strip/a", "/a"),
        ("/strip?a=b", "/?a=b"),
        ("/full", "/one"),
        ("/full/a?b=c", "/one?b=c"),
    ],
)
def test_paths_are_rewritten(asked: str, seen: str) -> None:
    assert get("w.example.com", asked, port=8000).seen["path"] == seen


def test_a_rewritten_host_leaves_the_old_one_for_the_pod_to_see() -> None:
    seen = dict(get("w.example.com", "/old/prefix", port=8000).seen["headers"])
    assert (seen["host"], seen["x-forwarded-host"]) == ("inner.example.com", "w.example.com")


@pytest.mark.parametrize(
    ("asked", "code", "location"),
    [
        ("/away", 301, "http://other.example.com:8000/to"),
        ("/away/a?b=c", 301, "http://other.example.com:8000/to/a?b=c"),
        ("/secure/a?b=c", 302, "https://w.example.com/secure/a?b=c"),
        ("/port", 302, "http://w.example.com:9000/port"),
    ],
)
def test_redirects(asked: str, code: int, location: str) -> None:
    answer = get("w.example.com", asked, port=8000)
    assert (answer.status, answer.headers["location"]) == (code, location)
    assert answer.headers.get("x-why") == ("moved" if asked.startswith("/away") else None)


@pytest.mark.parametrize("host", ["[fd00::1]", "[fd00::1]:8000", "W.example.com.:8000"])
def test_a_redirect_repeats_the_host_without_its_port(host: str) -> None:
    answer = get(host, "/anyhost", port=8001)
    name = host.removesuffix(":8000").removesuffix(".").lower()
    assert answer.headers["location"] == f"https://{name}/anyhost"


def test_a_backends_redirect_needs_no_other_beside_it() -> None:
    away = {
        "type": "RequestRedirect",
        "requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/z"}},
    }
    rule = {"backendRefs": [{"name": "web", "port": 80, "filters": [away]}]}
    files = render(planned(CLASSES, GATEWAY, route(rule, parents=[{"name": "gate"}]), slices("web", ["10.1.0.1"])).plan)
    assert set(re.findall(r"maps/[-a-z0-9]+", files["haproxy.cfg"])) <= set(files)


@pytest.mark.parametrize(("limit", "connect"), [("200ms", "50ms"), ("8s", "2000ms"), ("30s", ""), ("0s", "")])
def test_all_attempts_to_reach_an_endpoint_fit_into_the_time_of_a_request(limit: str, connect: str) -> None:
    rule = {"backendRefs": [{"name": "web", "port": 80}], "timeouts": {"request": limit}}
    files = render(planned(CLASSES, GATEWAY, route(rule, parents=[{"name": "gate"}]), slices("web", ["10.1.0.1"])).plan)
    found = re.findall(r"timeout connect (\S+)", files["haproxy.cfg"])
    assert found == ["5000ms", *([connect] if connect else [])]


def test_weights_are_kept() -> None:
    seen = collections.Counter(get("w.example.com", "/weights", port=8000).pod for _ in range(400))
    assert set(seen) == {"a", "b"}
    assert 250 < seen["a"] < 350, seen  # 300 expected; wrong one time in a billion


def test_the_share_of_an_invalid_backend_is_answered_500() -> None:
    seen = collections.Counter(get("w.example.com", "/halfbad", port=8000).status for _ in range(100))
    assert set(seen) == {200, 500}
    assert 20 < seen[500] < 80, seen


def test_each_backend_may_have_a_rewrite_or_a_redirect_of_its_own() -> None:
    seen = set()
    for _ in range(60):
        answer = get("w.example.com", "/each/one/two?x=1", port=8000)
        if answer.status == 200:
            seen.add((answer.pod, dict(answer.seen["headers"])["host"], answer.seen["path"]))
        else:
            seen.add((str(answer.status), answer.headers["location"], ""))
    assert seen == {
        ("a", "one.example.com", "/r/two?x=1"),
        ("b", "rule.example.com", "/each/one/two?x=1"),
        ("307", "http://away.example.com:8000/each/one/two?x=1", ""),
    }


@pytest.mark.parametrize(("path", "status"), [("/bad", 500), ("/empty", 503), ("/quick", 504), ("/none", 404)])
def test_what_is_answered_without_a_pod(path: str, status: int) -> None:
    assert get("w.example.com", path, port=8000).status == status
