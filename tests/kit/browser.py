"""A real browser to look at pages with, and what must never be seen in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import ConsoleMessage, Error, Page, sync_playwright

from hack.browser import program

PATIENCE = 30_000
"""Milliseconds to wait for what is to be seen."""
_FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_FLAGS += ["--disable-component-update", "--disable-sync"]
_FLAGS += ["--renderer-process-limit=1", "--disable-site-isolation-trials"]  # or it starts two for each page
_UNSEEN = r"/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u"


@contextmanager
def chromium() -> Iterator[Page]:
    """Run chromium with one tab for all tests; one for each would take as long as a second browser."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program(playwright), chromium_sandbox=False, args=_FLAGS)
        tab = running.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.clock.install()
        yield tab
        running.close()


@contextmanager
def looking(tab: Page, *, stay: bool = False) -> Iterator[Page]:
    """Look at a page or more in the tab; no script may fail, or be refused by the content security policy.

    Who stays leaves the last page open for the next to look.
    """
    faults: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            faults.append(message.text)

    def failed(error: Error) -> None:
        faults.append(str(error))

    tab.on("console", said)
    tab.on("pageerror", failed)
    tab.set_viewport_size({"width": 1280, "height": 900})
    try:
        yield tab
        if not stay:
            tab.goto("about:blank")
    finally:
        tab.unroute_all()
        tab.remove_listener("console", said)
        tab.remove_listener("pageerror", failed)
    assert faults == []


def later(page: Page) -> None:
    """Let seconds pass for the page, which asks for what is new."""
    with page.expect_response("**/page.json*"):
        page.clock.run_for(5_000)


def unseen(page: Page) -> list[str]:
    """Return the texts and attributes on the page with characters that nobody sees, or that turn its direction."""
    found: list[str] = page.evaluate(
        f"""() => {{
            const unseen = (text) => {_UNSEEN}.test(text.replace(/[\\n\\t]/g, ""));
            const shown = ["title", "aria-label", "placeholder"];
            const all = [...document.querySelectorAll("body *")];
            const attributes = all.flatMap((one) => shown.map((name) => one.getAttribute(name) || ""));
            const nodes = all.flatMap((one) => [...one.childNodes]).filter((node) => node.nodeType === Node.TEXT_NODE);
            const texts = nodes.map((node) => node.data);
            return [...attributes, ...texts, document.title].filter(unseen);
        }}"""
    )
    return found
