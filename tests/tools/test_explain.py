"""``kproxy explain`` as a user types it, with objects in files."""

import json
from pathlib import Path

import pytest

from kproxy.cli import main
from tests.kit.paths import ROOT

SHOP = [str(path) for path in sorted((ROOT / "hack/demo/shop").glob("*.yaml"))]
NODE = ["--hostname-override", "node-a", "--cluster-cidr", "10.244.0.0/16"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["explain", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_text_tells_verdict_endpoints_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "shop/web", "-f", *SHOP, *NODE)
    assert (code, err) == (0, "")
    assert "forwarded: internalTrafficPolicy Cluster: all ready endpoints are used" in out
    assert "10.244.0.11:8080" in out
    assert "33.33 %" in out


def test_json_is_the_documented_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "10.96.0.80:80", "--from", "10.244.0.99", "-o", "json", "-f", *SHOP, *NODE)
    told = json.loads(out)
    assert code == 0
    assert told["destination"] == "10.96.0.80:80"
    assert (told["source"], told["protocol"], told["verdict"]) == ("10.244.0.99", "tcp", "forward")
    assert told["masquerade"] is False
    assert told["kernel"] is None
    assert told["endpoints"][0] == {
        "address": "10.244.0.11:8080",
        "share": pytest.approx(1 / 3, abs=1e-6),
        "reason": None,
        "masquerade": False,
        "local": True,
    }


@pytest.mark.parametrize(
    ("destination", "code"), [("shop/web", 0), ("10.96.0.80:81", 4), ("shop/nothing", 4), ("shop", 2), ("", 2)]
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], destination: str, code: int) -> None:
    assert run(capsys, destination, "-f", *SHOP, *NODE)[0] == code


def test_a_service_without_endpoints_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lonely = tmp_path / "lonely.yaml"
    lonely.write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: lonely, namespace: shop}, "
        "spec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}}"
    )
    code, out, _ = run(capsys, "-f", str(lonely), "shop/lonely", "--hostname-override", "node-a")
    assert code == 3
    assert "no EndpointSlice belongs to it" in out


def test_a_folder_stands_for_the_manifests_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    by_files = run(capsys, "shop/web", "-f", *SHOP, *NODE)
    assert run(capsys, "shop/web", "-f", str(ROOT / "hack/demo/shop"), *NODE) == by_files
    code, out, err = run(capsys, "shop/web", "-f", str(tmp_path), *NODE)
    assert (code, out) == (2, "")
    assert err == f"kproxy: {tmp_path}: no manifests in this folder (.yaml, .yml, .json)\n"


def test_a_headless_service_is_called_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    headless = tmp_path / "headless.yaml"
    headless.write_text("{kind: Service, metadata: {name: db}, spec: {clusterIP: None, ports: [{port: 80}]}}")
    code, out, err = run(capsys, "default/db", "-f", str(headless), *NODE)
    assert (code, err) == (4, "")
    assert "default/db is there, but no business of kproxy's: it is headless" in out


@pytest.mark.parametrize("arguments", [["nowhere"], ["shop/web", "--from", "me"], []])
def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments, *(["-f", *SHOP] if arguments else []))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("kproxy: ")
