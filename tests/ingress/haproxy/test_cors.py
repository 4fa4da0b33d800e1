"""Which pages of other origins may read the answers: preflights, and what is said with answers."""

import pytest

from kproxy.ingress.haproxy.engine import Engine
from tests.ingress.gateways import gateway, route
from tests.ingress.haproxy.kit import Answer, get, slices
from tests.ingress.kit import CLASSES, planned

pytestmark = pytest.mark.kernel

SHOP = "https://shop.example.com"
RULES = {
    "/some": {
        "allowOrigins": [SHOP, "https://*.partner.com", "http://local.test:8080", "https://usual.test:443"],
        "allowMethods": ["PUT", "DELETE"],
        "allowHeaders": ["X-One", "X-Two"],
        "exposeHeaders": ["X-Seen"],
        "allowCredentials": True,
        "maxAge": 600,
    },
    "/any": {"allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"]},
    "/none": {},
}


@pytest.fixture(scope="module", autouse=True)
def applied(running: Engine) -> None:
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "filters": [{"type": "CORS", "cors": cors}],
            "backendRefs": [{"name": "web", "port": 80}],
        }
        for path, cors in RULES.items()
    ]
    made = planned(CLASSES, gateway({"name": "http", "port": 8000}), route(*rules), slices("web", ["10.1.0.1"]))
    assert made.problems == ()
    assert running.apply(made.plan).refused == []


def said(answer: Answer) -> dict[str, str]:
    begin = "access-control-"
    return {name.removeprefix(begin): value for name, value in answer.headers.items() if name.startswith(begin)}


def preflight(path: str, origin: str, method: str = "PUT", headers: str = "") -> Answer:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    asked |= {"Access-Control-Request-Headers": headers} if headers else {}
    return get("shop.example.com", path, port=8000, method="OPTIONS", headers=asked)


@pytest.mark.parametrize(
    "origin", [SHOP, "https://a.partner.com", "https://b.a.partner.com", "http://local.test:8080", "https://usual.test"]
)
def test_a_preflight_of_an_origin_allowed_is_answered_here(origin: str) -> None:
    answer = preflight("/some", origin)
    assert (answer.status, answer.body) == (204, b"")
    assert said(answer) == {
        "allow-origin": origin,
        "allow-credentials": "true",
        "allow-methods": "PUT, DELETE",
        "allow-headers": "X-One, X-Two",
        "expose-headers": "X-Seen",
        "max-age": "600",
    }
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://other.example.com",
        "http://shop.example.com",
        "https://shop.example.com:8443",
        "https://shop.example.com.evil.org",
        "https://partner.com",
        "https://evil.org/.partner.com",
        "https://shopXexample.com",
        "null",
    ],
)
def test_other_origins_are_told_nothing(origin: str) -> None:
    answer = preflight("/some", origin)
    assert (answer.status, said(answer)) == (204, {})
    answer = get("shop.example.com", "/some", port=8000, headers={"Origin": origin})
    assert (answer.status, said(answer)) == (200, {})
    assert said(preflight("/none", origin)) == {}


def test_what_is_asked_for_is_allowed_where_anything_is() -> None:
    asked = preflight("/any", "https://x.org:444", "PATCH", "X-A, X-B")
    assert said(asked) == {
        "allow-origin": "https://x.org:444", "allow-methods": "PATCH", "allow-headers": "X-A, X-B", "max-age": "5"
    }  # fmt: skip
    assert said(preflight("/any", "https://x.org", "PATCH")) == {
        "allow-origin": "https://x.org", "allow-methods": "PATCH", "max-age": "5"
    }  # fmt: skip


def test_answers_of_pods_say_whom_they_are_for() -> None:
    answer = get("shop.example.com", "/some", port=8000, headers={"Origin": SHOP})
    assert answer.pod == "a"
    assert said(answer) == {"allow-origin": SHOP, "allow-credentials": "true", "expose-headers": "X-Seen"}
    assert said(get("shop.example.com", "/some", port=8000)) == {}


def test_an_ordinary_request_for_options_gets_to_the_pod() -> None:
    assert get("shop.example.com", "/some", port=8000, method="OPTIONS", headers={"Origin": SHOP}).pod == "a"
    asked = {"Access-Control-Request-Method": "PUT"}
    assert get("shop.example.com", "/some", port=8000, method="OPTIONS", headers=asked).pod == "a"
