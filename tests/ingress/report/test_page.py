"""The page of the ingress program: what it is told; tests/report/page/test_browser.py looks at it."""

import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest

from kproxy.ingress.report.page.board import MOST_ROWS, count, rows
from tests.ingress.report.kit import EVIL, World, served


def get(address: str, path: str) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        of_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, dict(answer.headers), json.loads(body) if of_json else body
    finally:
        connection.close()


def test_what_the_page_is_told() -> None:
    world = World()
    with served(world) as address:
        assert get(address, "/page.json")[0] == 503
        world.open()
        _, _, told = get(address, "/page.json")
        by_match = {(row["host"], row["match"]): row for row in told["routes"]}
        assert by_match["shop.example.com", "every path"] == {
            "host": "shop.example.com",
            "match": "every path",
            "rule": "Ingress/default/shop/0",
            "ports": ["80 http", "443 https"],
            "targets": [{"service": "default/web:80", "share": 1.0, "ready": 1}],
        }
        states = {match: row.get("state", "serving") for (_, match), row in by_match.items()}
        assert states["path /gone/…"] == "no endpoints"
        assert states["path /old/…"] == "redirect"
        some = next(row for row in told["routes"] if row["match"].startswith("path /some"))
        assert (some["state"], some["owners"]) == ("partly", ["default/gw"])
        assert some["ports"] == ["80 http", "8080 http"]
        assert [one.get("service", "") for one in some["targets"]] == ["default/web:80", ""]
        assert told["totals"][0] == {
            "rule": "Ingress/default/shop/0", "backend": "default/web:80", "codes": [0, 50, 0, 0, 2], "errors": 3
        }  # fmt: skip
        assert (told["ready"], told["healthy"], told["more"]) == (True, True, 0)


def test_haproxy_is_asked_once_for_all_who_look_at_a_time() -> None:
    world = World()
    world.open()
    with served(world) as address:
        for _ in range(5):
            get(address, "/page.json")
        assert world.asked == 1
        world.now += 3
        get(address, "/page.json")
        assert world.asked == 2


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"url": "http://shop.example.com/x"}, 200),
        ({"url": "no url"}, 200),
        ({"url": EVIL, "method": EVIL}, 200),
        ({"url": "http://a/", "header": "no colon"}, 400),
        ({"url": "http://a/" + "x" * 9000}, 414),
    ],
)
def test_questions_are_answered_whatever_they_are(query: dict[str, str], status: int) -> None:
    world = World()
    world.open()
    with served(world) as address:
        code, headers, told = get(address, f"/page.json?{urlencode(query)}")
        assert code == status
        assert (told.get("answer") is None) is (query["url"] != "http://shop.example.com/x")
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_more_routes_than_can_be_shown_are_counted() -> None:
    made = World().plan
    assert made is not None
    frontend = made.frontends[0]
    host = frontend.listeners[0].hosts[0]
    many = tuple(
        msgspec.structs.replace(host, pattern=host.pattern._replace(name=f"h{number}.org"))
        for number in range(MOST_ROWS + 5)
    )
    listener = msgspec.structs.replace(frontend.listeners[0], hosts=many)
    plan = msgspec.structs.replace(made, frontends=(msgspec.structs.replace(frontend, listeners=(listener,)),))
    assert (len(rows(plan)), count(plan)) == (MOST_ROWS, (MOST_ROWS + 5) * len(host.routes))
