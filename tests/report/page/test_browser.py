"""What people see of both programs' pages, in one real browser: it takes seconds to start."""

import re
from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Page, Request, expect

from tests.ingress.report import kit as ingress
from tests.kit.browser import PATIENCE, chromium, later, looking, unseen
from tests.kit.hostile import EVIL as EVIL_TEXT
from tests.kit.hostile import answer, how_it_does
from tests.report.page.kit import World, port, served, service, slice_of

EVIL = "<img src=x onerror=document.title='owned'>\"'\u202egpj"
HERE, THERE = "node-a", "node-b"
PODS = (("10.244.0.11", HERE, True), ("10.244.1.12", THERE, True), ("10.244.1.13", THERE, False))
PLACE = {"addresses": ["10.244.0.11"], "conditions": {"ready": True}}
HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""What a browser does when its tab is put behind another."""
PUT_BACK = """() => {
    const [answer, ask, close, detail] = ["answer", "ask", "close", "detail"].map((id) => document.getElementById(id));
    if (!detail.hidden) close.click();
    for (const id of ["search", "namespace", "filter"]) {
        document.getElementById(id).value = "";
        document.getElementById(id).dispatchEvent(new Event("input"));
    }
    ask.reset();
    answer.hidden = true;
    document.activeElement.blur();
}"""
"""What makes a page, with which somebody has been at work, as it was at first."""


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with chromium() as tab:
        yield tab


def shop() -> World:
    world = World()
    world.show(
        [
            service("web", 80, type="NodePort", port={"nodePort": 30080}),
            service("empty", 81),
            service("misnamed", 82),
            service("away", 83, internalTrafficPolicy="Local"),
            service("cart", 84, namespace="other"),
        ],
        [
            slice_of("web", *PODS),
            slice_of("misnamed", PODS[0], port="www"),
            slice_of("away", PODS[1]),
            slice_of("cart", PODS[1], namespace="other"),
        ],
    )
    world.open()
    return world


@pytest.fixture
def world() -> World:
    return shop()


@pytest.fixture(scope="module")
def exhibition() -> Iterator[str]:
    """The address of a shop in which nothing changes."""
    with served(shop()) as address:
        yield address


@pytest.fixture
def page(tab: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of the test's world; tests that ask for none have one together, as loading it takes longest."""
    if "world" in request.fixturenames:
        with served(request.getfixturevalue("world")) as address, looking(tab) as page:
            begin(page, address)
            yield page
        return
    address = request.getfixturevalue("exhibition")
    with looking(tab, stay=True) as page:
        if not page.url.startswith(address):
            begin(page, address)
        yield page
        page.evaluate(PUT_BACK)


def begin(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#rows [data-id]").first).to_be_visible(timeout=PATIENCE)


def ids(page: Page) -> list[str]:
    return [str(row.get_attribute("data-id")) for row in page.locator("#rows [data-id]").all()]


def test_the_list_and_its_filters(page: Page) -> None:
    assert ids(page) == ["other/cart", "shop/away", "shop/empty", "shop/misnamed", "shop/web"]
    expect(page.get_by_role("status").first).to_have_text("well")
    for chosen, found in (
        ("refusing", ["shop/empty", "shop/misnamed"]),
        ("no local endpoints", ["shop/away"]),
        ("changed", []),
        ("", ["other/cart", "shop/away", "shop/empty", "shop/misnamed", "shop/web"]),
    ):
        page.get_by_label("Show").select_option(chosen)
        assert ids(page) == found
    page.get_by_label("Namespace").select_option("other")
    assert ids(page) == ["other/cart"]
    page.get_by_label("Namespace").select_option("")
    page.get_by_label("Search").fill("30080")
    assert ids(page) == ["shop/web"]


def test_a_port_by_the_wrong_name(page: Page) -> None:
    page.get_by_role("button", name="shop/misnamed").click()
    expect(page.locator(".end.unused .small title")).to_have_text(
        "its port is named 'www' (TCP), the Service's 'http' (TCP)"
    )
    expect(page.locator(".scene .stop.small")).to_contain_text("refused")


def test_explain(page: Page) -> None:
    page.locator("#to").fill("shop/empty")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#answer")).to_contain_text("refused by shop/empty:http")
    page.locator("#to").fill("no destination <b>")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("'no destination <b>' is no destination")


def test_a_tab_that_nobody_sees_asks_nothing(page: Page) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    later(page)
    page.evaluate(HIDE, True)
    page.evaluate("fetch('page.css')")  # what was under way is done by then
    asked.clear()
    page.clock.run_for(120_000)
    assert asked == []
    with page.expect_response("**/page.json*"):
        page.evaluate(HIDE, False)
    page.remove_listener("request", note)


def test_by_keyboard(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("shop/")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="shop/empty")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="shop/empty")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="shop/empty")).to_be_focused()


def test_what_a_screen_reader_is_told(page: Page) -> None:
    """The tree of the page: landmarks, labels of everything that can be used, the table's heads, what is open."""
    page.get_by_role("button", name="shop/web").click()
    expect(page.locator("#detail .scene")).to_be_visible()
    for role, name in (
        ("textbox", "To"),
        ("combobox", "From"),
        ("combobox", "Protocol"),
        ("button", "Explain"),
        ("searchbox", "Search"),
        ("combobox", "Namespace"),
        ("combobox", "Show"),
        ("columnheader", "Service"),
        ("columnheader", "Ends: endpoints in use"),
        ("rowheader", "shop/web"),
        ("heading", "shop/web"),
        ("button", "Close"),
        ("article", "shop/web"),
    ):
        expect(page.get_by_role(role, name=name, exact=True)).to_have_count(1)  # type: ignore[arg-type]
    expect(page.get_by_role("img", name=re.compile("2 frontends, 2 of 3 endpoints used"))).to_have_count(1)
    expect(page.locator("[aria-current=true]")).to_have_attribute("data-id", "shop/web")
    nameless = page.locator("button, input, select, a").evaluate_all(
        "all => all.filter((one) => !(one.textContent.trim() || one.labels?.length || one.ariaLabel)).length"
    )
    assert nameless == 0


@pytest.mark.parametrize("width", [340, 800])
def test_a_narrow_screen_needs_no_scrolling_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.get_by_role("button", name="shop/web").click()
    expect(page.locator("#detail .scene")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_change_is_seen_and_counted_as_lately(page: Page, world: World) -> None:
    page.get_by_label("Show").select_option("changed")
    world.show([service("web", 80), service("new", 85)], [slice_of("web", PODS[0])])
    later(page)
    expect(page.locator("#rows [data-id='shop/new']")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#rows [data-id='shop/web'] td").nth(1)).to_have_text("1")
    expect(page.locator("#count")).to_have_text("2 Services")


def test_the_picture_of_a_service(page: Page, world: World) -> None:
    page.get_by_role("button", name="shop/web").click()
    expect(page.locator("#detail .scene rect")).to_have_count(5)
    widths = [float(line.get_attribute("stroke-width") or 0) for line in page.locator("path.used").all()]
    assert widths == [8.0] * 4
    expect(page.locator(".end.unused text")).to_have_text(["10.244.1.13:8080" * 2, "not ready" * 2])  # and its title
    world.growing = port("web"), "10.244.0.11:8080"
    for _ in range(2):  # a rate is the difference of two counts
        later(page)
    expect(page.locator(".end", has_text="10.244.0.11").locator("[text-anchor]")).to_have_text(
        re.compile(r"[1-9]"), timeout=PATIENCE
    )
    expect(page.locator("#rows [data-id='shop/web'] td").nth(2)).to_have_text(re.compile(r"[1-9]"), timeout=PATIENCE)
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


def test_what_others_wrote_is_text(page: Page, world: World) -> None:
    world.problems = (EVIL,)
    later(page)
    expect(page.locator("#trouble li")).to_have_text(EVIL.replace("\u202e", "\\u202e"), timeout=PATIENCE)
    world.show([service("web", 80)], [slice_of("web", PODS[0], port="http")])
    page.locator("#to").fill(EVIL)
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#answer")).to_contain_text("onerror")
    assert page.locator("img").count() == 0
    assert page.title() == "kproxy on node-a"


def test_the_worst_of_names_everywhere(page: Page, world: World) -> None:
    world.how_it_does = how_it_does(EVIL_TEXT)
    world.explained = lambda *_: answer(EVIL_TEXT)
    places = [{**PLACE, "nodeName": EVIL_TEXT, "hints": {"forZones": [{"name": EVIL_TEXT}]}, "zone": EVIL_TEXT}]
    hostile = {**slice_of("misnamed", PODS[0], port=EVIL_TEXT), "endpoints": places}
    world.show(
        [service("misnamed", 82, externalIPs=[EVIL_TEXT], annotations={EVIL_TEXT: EVIL_TEXT}), service("web", 80)],
        [hostile, {**slice_of("web", PODS[0]), "endpoints": places}],
    )
    later(page)
    expect(page.locator("#trouble li").first).to_contain_text("onerror", timeout=PATIENCE)
    page.get_by_role("button", name="shop/misnamed").click()
    expect(page.locator(".end.unused .small title")).to_contain_text("onerror", timeout=PATIENCE)
    assert unseen(page) == []
    page.locator("#to").fill("shop/misnamed")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#answer")).to_contain_text("onerror", timeout=PATIENCE)
    assert unseen(page) == []
    assert page.locator("img").count() == 0
    assert page.title().endswith("x" * 100)
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_ten_thousand_services_are_a_handful_of_rows(page: Page, world: World) -> None:
    world.show([service(f"s-{number}", number) for number in range(10_000)])
    later(page)
    expect(page.locator("#count")).to_have_text("10,000 Services", timeout=PATIENCE)
    assert len(ids(page)) < 60
    page.locator("#services").evaluate("list => { list.scrollTop = list.scrollHeight }")
    expect(page.locator("#rows [data-id='shop/s-9999']")).to_be_visible()


def test_people_see_the_routes_of_ingress_and_ask_and_nothing_of_strangers_becomes_markup(tab: Page) -> None:
    world = ingress.World()
    world.open()
    with ingress.served(world) as address, looking(tab) as page:
        page.goto(address)
        expect(page.locator("#rows tr")).to_have_count(4, timeout=PATIENCE)
        expect(page.locator("#verdict")).to_have_text("well")
        expect(page.locator("#trouble li")).to_have_text(
            ["Ingress default/bad: " + ingress.EVIL.replace("\u202e", "\\u202e")]
        )
        page.get_by_label("Show").select_option("trouble")
        expect(page.locator("#rows tr")).to_have_count(2)
        page.get_by_label("Show").select_option("")
        page.get_by_label("Search").fill("shop.example.com")
        expect(page.locator("#rows tr")).to_have_count(2)
        page.get_by_label("URL").fill("http://shop.example.com/cart?a=1")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#answer strong")).to_have_text("is forwarded")
        page.get_by_label("URL").fill(f"http://{ingress.EVIL}/")
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


def test_the_worst_of_texts_everywhere_on_that_of_ingress(tab: Page) -> None:
    """Whatever text the page is told, it shows what nobody can see in it by number, and is no wider than its window."""
    with ingress.served(ingress.World()) as address, looking(tab) as page:
        page.route(
            "**/page.json?", lambda route: route.fulfill(body=msgspec.json.encode(ingress.how_it_goes(EVIL_TEXT)))
        )
        page.route(
            "**/page.json?url=*", lambda route: route.fulfill(body=msgspec.json.encode(ingress.reply(EVIL_TEXT)))
        )
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
