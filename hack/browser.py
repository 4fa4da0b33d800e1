"""A real browser, Debian's chromium, that runs on a node of the lab and sees what is served there."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from hack.lab.namespaces import Namespace

PROGRAM = shutil.which("chromium-headless-shell") or "/usr/bin/chromium"
"""The one without windows: the same engine, and a page takes it two thirds of the other's processor time."""


@contextlib.contextmanager
def browser_in(namespace: Namespace) -> Iterator[Browser]:
    """Run one in a network namespace while the block lasts."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        wrapper = Path(scratch) / "chromium"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {namespace.name} {PROGRAM} "$@"\n')
        wrapper.chmod(0o755)
        browser = playwright.chromium.launch(
            executable_path=str(wrapper), chromium_sandbox=False, args=["--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()
