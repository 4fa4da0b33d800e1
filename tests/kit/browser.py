"""A real browser to look at pages with, and what must never be seen in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

PATIENCE = 30_000
"""Milliseconds to wait for what is to be seen."""
_FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_FLAGS += ["--disable-component-update", "--disable-sync"]
_UNSEEN = r"/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", chromium_sandbox=False, args=_FLAGS)
        yield running
        running.close()


@contextmanager
def looking(browser: Browser) -> Iterator[Page]:
    """Have a page of one's own; no script on it may fail, or be refused by the content security policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()
    assert faults == []


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
