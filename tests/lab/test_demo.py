"""The demo: it keeps its word, and does not claim what is not so."""

import shutil
from pathlib import Path

import pytest

from hack.demo import __main__ as demo
from hack.demo import shop
from hack.lab import Lab

pytestmark = pytest.mark.kernel


def test_everything_the_demo_claims_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0, capsys.readouterr().out
    shown = capsys.readouterr().out
    assert "✗" not in shown
    assert shown.count("✓") > 20


def test_a_shop_that_is_not_as_claimed_fails_the_demo(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(shop.MANIFESTS, tmp_path / "shop"))
    cart = changed / "cart.yaml"
    before, found, after = cart.read_text().rpartition("ready: true")  # cart-2, by IPv6
    cart.write_text(f"{before}ready: false{after}")
    assert found
    monkeypatch.setattr(shop, "MANIFESTS", changed)
    assert demo.main() == 1
    shown = capsys.readouterr().out
    assert "✗ each of 2 pods got its fair share" in shown
    assert "seen:     {'cart-1': 300}" in shown
    assert "\n1 of " in shown


def test_a_kproxy_that_dies_is_told_with_its_last_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(screen: object, lab: Lab) -> None:  # noqa: ARG001
        lab.node.processes[-1].kill()

    monkeypatch.setattr(demo, "rules", killed)
    assert demo.main() == 1
    told = capsys.readouterr().err
    assert "hack/demo.sh: [Errno 111] Connection refused; the end of kproxy's log:\n" in told
    assert "synced family=ipv4" in told
