"""What is said of a request: which rule it meets, what that does, and what there is where it meets none."""

import pytest

from kproxy.ingress.explain.answer import explain
from kproxy.ingress.explain.model import Answer, Verdict, Way
from kproxy.ingress.explain.question import Question, QuestionError, read, read_headers
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import planned, secret, service

SHOP = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  defaultBackend: {service: {name: web, port: {number: 80}}}
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
      - {path: /gone, pathType: Exact, backend: {service: {name: gone, port: {number: 80}}}}
"""


def answer(url: str, *documents: str, method: str = "GET", headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    plan = planned(*documents, service("web"), service("cart"), secret("shop-tls")).plan
    return explain(plan, Question(url=url, method=method, headers=headers))


def way(url: str, *documents: str, method: str = "GET", headers: tuple[tuple[str, str], ...] = ()) -> Way:
    (found,) = answer(url, *documents, method=method, headers=headers).ways
    return found


@pytest.mark.parametrize(
    ("url", "rule", "goes_to"),
    [
        ("http://shop.example.com", 0, "default/web:80"),
        ("http://SHOP.example.com:80/cart/1?x=y", 1, "default/cart:80"),
        ("http://shop.example.com/cartoon", 0, "default/web:80"),
        ("https://shop.example.com/cart", 1, "default/cart:80"),
        ("http://other.example.com/", -1, "default/web:80"),
    ],
)
def test_the_rule_and_the_service_of_an_ingress(url: str, rule: int, goes_to: str) -> None:
    found = way(url, SHOP)
    assert found.verdict is Verdict.FORWARD
    assert (found.kind, found.object, found.rule) == ("Ingress", "default/shop", rule)
    (choice,) = found.choices
    assert choice.service == goes_to
    (endpoint,) = choice.endpoints
    assert endpoint.share == 1.0


def test_a_service_that_is_not_there_is_answered_503() -> None:
    found = way("http://shop.example.com/gone", SHOP)
    assert (found.verdict, found.status) == (Verdict.REFUSE, 503)


def test_where_no_rule_is_met_it_says_what_there_is() -> None:
    without_default = SHOP.replace("  defaultBackend: {service: {name: web, port: {number: 80}}}\n", "")
    found = way("http://nobody.example.com/", without_default)
    assert (found.verdict, found.status) == (Verdict.NONE, 404)
    assert found.near == ("no rule is for host nobody.example.com; there are rules for shop.example.com",)
    only_cart = without_default.replace("- {path: /,", "- {path: /front,")
    (line,) = way("http://shop.example.com/other", only_cart).near
    assert "path /cart/… (Ingress/default/shop/1)" in line


def test_a_port_where_nothing_is_served() -> None:
    found = answer("http://shop.example.com:81/", SHOP)
    assert found.verdict is Verdict.NONE
    assert found.notes == ("nothing is served at port 81 by http; ports served: 443 (https), 80 (http)",)


def test_methods_headers_and_queries_decide() -> None:
    match = {
        "method": "POST",
        "headers": [{"name": "X-Env", "value": "canary"}],
        "queryParams": [{"name": "v", "value": "2"}],
    }
    documents = [gateway({"name": "http", "port": 8080}), route(to("cart", matches=[match]), to("web"))]
    url = "http://any.example.com:8080/?v=2"
    found = way(url, *documents, method="POST", headers=(("x-env", "canary"),))
    assert (found.kind, found.rule) == ("HTTPRoute", 0)
    assert found.owners == ("Gateway/default/gw/http",)
    assert found.match == "every path, method POST, header x-env = canary, query parameter v = 2"
    assert way(url, *documents, method="GET", headers=(("x-env", "canary"),)).rule == 1
    assert way(url, *documents, method="POST").rule == 1


def test_a_redirect_says_where_to() -> None:
    redirect = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    documents = [gateway({"name": "http", "port": 8080}), route({"filters": [redirect]})]
    found = way("http://shop.example.com:8080/a?b=c", *documents)
    assert (found.verdict, found.status) == (Verdict.REDIRECT, 301)
    assert found.location == "https://shop.example.com/a?b=c"


def test_shares_and_changes_are_told() -> None:
    rewrite = {
        "type": "URLRewrite",
        "urlRewrite": {
            "hostname": "in.example.com",
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"},
        },
    }
    refs = [{"name": "web", "port": 80, "weight": 3}, {"name": "cart", "port": 80, "weight": 1}]
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/old"}}],
        "filters": [rewrite],
        "backendRefs": refs,
        "timeouts": {"request": "10s"},
    }
    found = way("http://a.example.com:8080/old/x", gateway({"name": "http", "port": 8080}), route(rule))
    assert [(choice.service, choice.share) for choice in found.choices] == [
        ("default/web:80", 0.75),
        ("default/cart:80", 0.25),
    ]
    assert found.changes == (
        "Host becomes in.example.com",
        "the path becomes /new/x",
        "the whole request may take 10 s",
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://", "is no URL"),
        ("http://a:x/", "is no URL"),
        ("http://[::1/", "is no URL"),
        ("ftp://a/", "is no URL"),
        ("http://a/\u00e4", "percent-encoded"),
    ],
)
def test_what_is_no_question(url: str, words: str) -> None:
    with pytest.raises(QuestionError, match=words):
        read(Question(url=url))


def test_headers_are_read_as_people_write_them() -> None:
    assert read_headers(["X-A: b: c", "x-b:d"]) == (("X-A", "b: c"), ("x-b", "d"))
    with pytest.raises(QuestionError, match="is no header"):
        read_headers(["no colon"])
