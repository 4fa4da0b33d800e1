"""The command lines: ``kproxy ingress render``, ``kproxy explain URL``; and that nothing of it is loaded in vain."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kproxy.cli import main
from tests.ingress.haproxy.kit import ingress, slices
from tests.ingress.kit import secret


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.yaml"
    file.write_text("\n---\n".join([slices("web", ["10.1.0.1"]), ingress("shop.example.com", "web")]))
    return file


def test_render_prints_the_configuration_and_the_maps(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingress", "render", "-f", str(shop)]) == 0
    out = capsys.readouterr().out
    names = [line.removeprefix("# --- ") for line in out.splitlines() if line.startswith("# --- ")]
    assert names[0] == "haproxy.cfg"
    assert any(name.startswith("maps/") and "hosts" in name for name in names)
    assert "server 10.1.0.1:8080" in out
    assert "shop.example.com h" in out


def test_render_shows_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tls.yaml"
    tls = ingress("shop.example.com", "web").replace(
        "spec:\n", "spec:\n  tls: [{hosts: [shop.example.com], secretName: shop-tls}]\n"
    )
    file.write_text("\n---\n".join([slices("web", ["10.1.0.1"]), tls, secret("shop-tls")]))
    assert main(["ingress", "render", "-f", str(file)]) == 0
    out = capsys.readouterr().out
    assert "PRIVATE KEY" not in out
    assert "a certificate with its key, not shown" in out


def test_render_needs_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingress", "render"]) == 2
    assert "render needs manifests" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["http://shop.example.com/"], 0),
        (["http://nobody.example.com/"], 4),
        (["http://shop.example.com:81/"], 4),
        (["http://"], 2),
        (["http://shop.example.com/", "--header", "x"], 2),
    ],
)
def test_explain_tells_by_its_exit_code(shop: Path, words: list[str], code: int) -> None:
    assert main(["explain", *words, "-f", str(shop)]) == code
    assert main(["explain", "-f", str(shop), *words]) == code


def test_explain_in_json(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "http://shop.example.com/x", "-o", "json", "-f", str(shop)]) == 0
    (way,) = json.loads(capsys.readouterr().out)["ways"]
    assert way["verdict"] == "forward"
    assert way["object"] == "default/shop.example.com"


def test_explain_says_whom_it_asked_in_vain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "http://shop.example.com/", "--state-dir", "/nowhere"]) == 2
    assert "no kproxy ingress answers at /nowhere/kproxy.sock" in capsys.readouterr().err


def test_the_service_proxy_loads_nothing_of_it() -> None:
    code = (
        "import sys, kproxy.cli, kproxy.daemon.run; print([m for m in sys.modules if m.startswith('kproxy.ingress')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
