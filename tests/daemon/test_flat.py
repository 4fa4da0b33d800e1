"""What changes of mode leave behind in a daemon that is asked all it can be asked: nothing, however many they are."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping

import pytest
import yaml

from hack.lab import Kproxy, Lab, until
from hack.lab.kproxy import METRICS_PORT, run_command
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port
from tests.kit.packets import PATIENCE

pytestmark = pytest.mark.kernel

OTHER_AND_BACK = ("iptables", "nftables")
ROUNDS = 6
LETS_GO = 5.0
"""Seconds."""
COUNTING = """
import gc, json, os, signal, sys, threading
from collections import Counter
from pathlib import Path
from types import ModuleType

file = Path(sys.argv.pop(1))


def count(_number, _frame):
    gc.unfreeze()
    gc.collect()
    objects = gc.get_objects()
    modules = Counter("module " + one.__name__ for one in objects if isinstance(one, ModuleType))
    classes = Counter(f"class {one.__module__}.{one.__qualname__}" for one in objects if isinstance(one, type))
    made = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in objects)
    held = modules + classes + made
    found = {name: number for name, number in held.items() if "kproxy." in name}
    found |= {"threads": threading.active_count(), "descriptors": len(os.listdir("/proc/self/fd"))}
    found |= {"modules": len(sys.modules), "code": made["builtins.function"]}
    gc.freeze()
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(found))
    draft.rename(file)


signal.signal(signal.SIGUSR1, count)
import kproxy.config.watch
from kproxy.cli import main
kproxy.config.watch.LOOK_SECONDS = 0.05
sys.exit(main())
"""
"""Runs kproxy, and at SIGUSR1 writes down what there is of its modules, classes and objects, and how many of each."""


class Daemon:
    """A kproxy that counts what it holds, on a folder of manifests."""

    def __init__(self, lab: Lab) -> None:
        self._config = lab.folder / "config.json"
        self._counts = lab.folder / "counts"
        self.configure(OTHER_AND_BACK[-1])
        folder = lab.folder / "manifests"
        folder.mkdir()
        ports = [service_port(80)]
        objects = [
            made
            for number in range(1, 10)
            for made in (
                make_service(f"web-{number}", cluster_ip=f"10.96.0.{number}", ports=ports),
                make_slice(f"web-{number}", endpoints=[endpoint(f"10.0.9.{number}")], ports=[slice_port(8080)]),
            )
        ]
        (folder / "all.yaml").write_text(yaml.safe_dump_all(objects))
        own = ["--config", str(self._config), "--state-directory", str(lab.folder / "state")]
        node = lab.node
        _, _, _, *command = run_command(node.name, node.ip, ["--manifests", str(folder)], own)
        process = node.start([sys.executable, "-c", COUNTING, str(self._counts), *command])
        self.kproxy = Kproxy(process, node.namespace, node.ip)
        self.kproxy.wait_ready(PATIENCE)

    def configure(self, mode: str) -> None:
        """Have it go to a mode, soon."""
        head = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
        draft = self._config.with_suffix(".draft")
        draft.write_text(json.dumps({**head, "mode": mode}))
        draft.rename(self._config)

    def change(self, mode: str) -> None:
        """Have it go to a mode, and ask it everything there."""
        removed = self.kproxy.log().count("removed the rules of mode")
        self.configure(mode)
        until(lambda: self.kproxy.log().count("removed the rules of mode") > removed, PATIENCE, "the change")
        self.kproxy.wait_ready(PATIENCE)
        self.kproxy.metrics()
        for question in ("", "?service=default/web-1", "?explain=default/web-1"):
            status, text = self.kproxy.get(f"/page.json{question}", METRICS_PORT)
            assert (status, json.loads(text) != {}) == (200, True)

    def held(self) -> Mapping[str, int]:
        """What it holds."""
        self._counts.unlink(missing_ok=True)
        os.kill(self.kproxy.process.pid, signal.SIGUSR1)
        until(self._counts.exists, PATIENCE, "the count")
        found: dict[str, int] = json.loads(self._counts.read_text())
        return found


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    daemon = Daemon(lab)
    yield daemon
    assert daemon.kproxy.stop() == 0
    assert "Traceback" not in daemon.kproxy.log()
    lab.node.run([sys.executable, "-m", "kproxy", "cleanup"])


def more(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """What there is more of now, with how many there were and are."""
    return {name: (before.get(name, 0), number) for name, number in now.items() if number > before.get(name, 0)}


def test_changes_of_mode_leave_nothing_behind(daemon: Daemon) -> None:
    """What gathers does so with each one; what is made when it is first needed, as a pool's threads are, does not."""
    now: Mapping[str, int] = {}
    for _ in range(ROUNDS):
        before = now
        for mode in OTHER_AND_BACK:
            daemon.change(mode)
        deadline = time.monotonic() + LETS_GO
        while (found := more(before, now := daemon.held())) and time.monotonic() < deadline:
            pass  # what has just been asked may take a moment yet to let go
        if not found:
            return
    assert found == {}, f"there is more of it after each of {ROUNDS} changes to another mode and back"
