"""A real browser, chromium, that runs on a node of the lab and sees what is served there."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

from hack.lab.namespaces import Namespace


def program(playwright: Playwright) -> str:
    """Return Debian's, the one without windows: the same engine, for two thirds of the processor time.

    Where there is none it is playwright's own, see hack/setup.sh; one on PATH may be Ubuntu's snap, which sees no
    other namespace than its own.
    """
    return shutil.which("chromium-headless-shell") or playwright.chromium.executable_path


@contextlib.contextmanager
def browser_in(namespace: Namespace) -> Iterator[Browser]:
    """Run one in a network namespace while the block lasts."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        wrapper = Path(scratch) / "chromium"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {namespace.name} {program(playwright)} "$@"\n')
        wrapper.chmod(0o755)
        browser = playwright.chromium.launch(
            executable_path=str(wrapper), chromium_sandbox=False, args=["--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()
