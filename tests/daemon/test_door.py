"""The socket by which people ask the daemon: root's alone, patient with clients, gone when the daemon is."""

import json
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.lab import Kproxy, Lab
from kproxy.daemon.door import open_door
from tests.kit.packets import PATIENCE, service, slices


def asked(path: Path, line: bytes = b"{}\n") -> bytes:
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(PATIENCE)
        asker.connect(str(path))
        asker.sendall(line)
        parts = []
        while part := asker.recv(4096):
            parts.append(part)
        return b"".join(parts)


def test_it_is_for_root_alone_and_goes_with_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "state" / "kproxy.sock"
    with open_door(path, lambda line: line.upper()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert asked(path, b"question\n") == b"QUESTION\n"
    assert not path.exists()


def test_another_daemon_may_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "kproxy.sock"
    with open_door(path, lambda _: b"first"), open_door(path, lambda _: b"second"):
        assert asked(path) == b"second"
    assert not path.exists()


def test_a_client_that_says_nothing_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "kproxy.sock"
    with open_door(path, lambda _: b"answer"), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(path))
        assert asked(path) == b"answer"


def test_where_there_can_be_none_the_daemon_goes_on(tmp_path: Path) -> None:
    with open_door(tmp_path / ("x" * 120) / "kproxy.sock", lambda _: b""):
        assert threading.active_count() >= 1


# --- with a daemon behind it -----------------------------------------------------------------------------------------


@pytest.fixture
def running(lab: Lab, tmp_path: Path) -> Iterator[Kproxy]:
    web = [service("web", 80), *slices("web", [lab.add_pod("web-1")])]
    (tmp_path / "web.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": web}))
    kproxy = lab.node.start_kproxy(manifests=tmp_path, args=state(lab))
    kproxy.wait_ready(PATIENCE)
    yield kproxy
    kproxy.stop()
    lab.node.clean_up(*state(lab))


def state(lab: Lab) -> list[str]:
    return ["--state-directory", str(lab.folder / "state")]


def run(lab: Lab, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return lab.node.run([sys.executable, "-m", "kproxy", *arguments, *state(lab)], check=False)


@pytest.mark.kernel
@pytest.mark.usefixtures("running")
def test_explain_diff_and_status_ask_the_daemon(lab: Lab) -> None:
    told = run(lab, "explain", "default/web", "-o", "json")
    assert told.returncode == 0, told.stderr
    answer: dict[str, Any] = json.loads(told.stdout)
    assert (answer["verdict"], answer["endpoints"][0]["share"]) == ("forward", 1.0)
    assert run(lab, "explain", "10.96.0.80:81").returncode == 4
    status = run(lab, "status", "-o", "json")
    assert status.returncode == 0, status.stderr
    how: dict[str, Any] = json.loads(status.stdout)
    assert (how["healthy"], how["mode"], how["families"][0]["services"]) == (True, "iptables", 1)
    assert (answer["kernel"], answer["differences"], answer["doubts"]) == ("as planned", [], [])
    assert [rule["chain"] for rule in answer["rules"]][:2] == ["PREROUTING", "KUBE-SERVICES"]
    assert (run(lab, "diff").returncode, run(lab, "diff").stdout) == (0, "")
    from_afar = run(lab, "status", "--node", lab.node.ip, "-o", "json")
    assert json.loads(from_afar.stdout)["families"][0]["rules"] == how["families"][0]["rules"]


@pytest.mark.kernel
def test_without_a_daemon_one_line_says_so(lab: Lab) -> None:
    for command in (["explain", "default/web"], ["status"]):
        told = run(lab, *command)
        assert told.returncode in (1, 2)
        assert len(told.stderr.splitlines()) == 1
        assert "no kproxy answers at" in told.stderr
