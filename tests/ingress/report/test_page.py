"""The page of the ingress program: what it is told, and what people see of it in a real browser."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest
from playwright.sync_api import Page, expect

from kproxy.config import BindAddress
from kproxy.ingress.explain import model as explained
from kproxy.ingress.explain.model import Answer, Choice, Endpoint
from kproxy.ingress.explain.reply import Reply, replier
from kproxy.ingress.haproxy.engine import Totals
from kproxy.ingress.plan.model import Plan
from kproxy.ingress.report.metrics import Scraped
from kproxy.ingress.report.page import Answers, Sources, page_routes
from kproxy.ingress.report.page.answers import Overview
from kproxy.ingress.report.page.board import MOST_ROWS, Row, Target, Total, count, rows
from kproxy.ingress.report.traffic import Clients, Way, nothing
from kproxy.report.health import Verdict
from kproxy.report.http import HttpServers
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import CLASSES, planned, service
from tests.kit.browser import PATIENCE, chromium, later, looking, unseen
from tests.kit.hostile import EVIL as WORST

EVIL = "<img src=x onerror=document.title='owned'>\"'\u202egpj"
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /gone, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}
"""


class World:
    """What the page is shown."""

    def __init__(self) -> None:
        header = [{"name": "X-Evil", "value": EVIL.encode("ascii", "ignore").decode()}]
        listeners = ({"name": "http"}, {"name": "more", "port": 8080})
        redirect = {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]}
        away = redirect | {"matches": [{"path": {"value": "/old"}}]}
        some = to("web", "gone") | {"matches": [{"path": {"value": "/some"}, "headers": header}]}
        self.plan: Plan | None = planned(
            CLASSES, gateway(*listeners), route(away, some, hostnames=["gw.example.com"]), INGRESS, service("web")
        ).plan
        self.asked = 0
        self.requests = 0
        self.ready = True
        self.now = 100.0
        self.answers = Answers(clock=lambda: self.now)

    def open(self) -> None:
        self.answers.open(
            Sources(
                plan=lambda: self.plan,
                problems=lambda: (f"Ingress default/bad: {EVIL}",),
                scrape=self.scrape,
                health=lambda: Verdict(200, {"healthy": True}),
                ready=lambda: (
                    Verdict(200, {}) if self.ready else Verdict(503, {"reasons": ["HAProxy does not answer"]})
                ),
                explain=replier(lambda: self.plan),
            )
        )

    def scrape(self) -> Scraped:
        self.asked += 1
        self.requests += 50
        reading = nothing()._replace(codes=(0, self.requests, 0, 0, 2), errors=(1, 2, 9, 9))
        ways = {Way("Ingress/default/shop/0", "default/web:80"): reading}
        return Scraped(ways, [Clients("f80", 3)], serving=True, totals=Totals(reloads=4), writes=True, failed_writes=0)


def how_it_goes(text: str) -> Overview:
    """What the page is told, each text of which is a stranger's."""
    targets = (Target(service="", share=0.5), Target(service=text, share=0.5, ready=1))
    row = Row(host=text, match=text, rule=text, ports=(text,), owners=(text,), state="partly", targets=targets)
    return Overview(
        boot="a",
        counted=1.0,
        interval=2.0,
        version=text,
        ready=False,
        healthy=True,
        reasons=(text,),
        facts=(("routes", text),),
        problems=(text,),
        routes=(row,),
        more=0,
        totals=(Total(rule=text, backend=text, codes=(0, 1, 0, 0, 0), errors=1),),
    )


def reply(text: str) -> Reply:
    """An answer to a question, alike."""
    ends = (Endpoint(address=text, share=1.0),)
    way = explained.Way(
        binds=(text,),
        protocol=text,
        verdict=explained.Verdict.REDIRECT,
        owners=(text,),
        host=text,
        match=text,
        kind=text,
        object=text,
        rule=1,
        location=text,
        changes=(text,),
        choices=(Choice(service=text, share=1.0, changes=(text,), endpoints=ends),),
    )
    return Reply(Answer(url=text, method=text, ways=(way,), notes=(text,)))


@contextmanager
def served(world: World) -> Iterator[str]:
    """Serve the page; yield its address."""
    servers = HttpServers()
    servers.start()
    try:
        protocol = servers.protocol(lambda request: page_routes(world.answers)[request.path](request), inline=False)
        listener = servers.call(servers.listen(protocol, BindAddress("127.0.0.1", 0)))
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    finally:
        servers.stop()


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


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with chromium() as tab:
        yield tab


def test_people_see_routes_and_ask_and_nothing_of_strangers_becomes_markup(tab: Page) -> None:
    world = World()
    world.open()
    with served(world) as address, looking(tab) as page:
        page.goto(address)
        expect(page.locator("#rows tr")).to_have_count(4, timeout=PATIENCE)
        expect(page.locator("#verdict")).to_have_text("well")
        expect(page.locator("#trouble li")).to_have_text(["Ingress default/bad: " + EVIL.replace("\u202e", "\\u202e")])
        page.get_by_label("Show").select_option("trouble")
        expect(page.locator("#rows tr")).to_have_count(2)
        page.get_by_label("Show").select_option("")
        page.get_by_label("Search").fill("shop.example.com")
        expect(page.locator("#rows tr")).to_have_count(2)
        page.get_by_label("URL").fill("http://shop.example.com/cart?a=1")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#answer strong")).to_have_text("is forwarded")
        page.get_by_label("URL").fill(f"http://{EVIL}/")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#answer strong")).to_have_text("is answered 404: no rule is met")
        expect(page.locator("#answer li").first).to_contain_text("<img src=x")
        world.now += 4
        later(page)
        served_row = page.locator("#rows tr", has_text="every path")
        expect(served_row.locator("td.number").first).not_to_have_text("\u2013", timeout=PATIENCE)
        assert page.locator("img").count() == 0
        assert page.title() == "kproxy ingress"
        world.now, world.ready = world.now + 4, False
        later(page)
        expect(page.locator("#verdict")).to_have_text("not ready", timeout=PATIENCE)


def test_the_worst_of_texts_everywhere(tab: Page) -> None:
    """Whatever text the page is told, it shows what nobody can see in it by number, and is no wider than its window."""
    with served(World()) as address, looking(tab) as page:
        page.route("**/page.json?", lambda route: route.fulfill(body=msgspec.json.encode(how_it_goes(WORST))))
        page.route("**/page.json?url=*", lambda route: route.fulfill(body=msgspec.json.encode(reply(WORST))))
        page.goto(address)
        expect(page.locator("#rows tr")).to_have_count(1, timeout=PATIENCE)
        expect(page.locator("#trouble li").first).to_contain_text("a\\u001b[2J")
        expect(page.locator("#rows td").first).to_contain_text("b\\u202egnp")
        page.get_by_label("URL").fill("http://a/")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#answer li").first).to_contain_text("onerror")
        assert unseen(page) == []
        assert page.locator("img").count() == 0
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
