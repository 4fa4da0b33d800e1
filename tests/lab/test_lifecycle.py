"""How labs begin and end: nothing stays behind, dead labs are removed by the next one, living ones left alone."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.lab import Lab, LabError, leases, namespaces, until
from hack.lab.processes import REPOSITORY

pytestmark = pytest.mark.kernel

PATIENCE = 30.0  # seconds for what ends the wait


def traces(lab_id: str) -> list[str]:
    """What there is of a lab on the machine."""
    folder = leases.STATE_FOLDER / lab_id
    return namespaces.existing(f"kplab-{lab_id}-") + ([str(folder)] if folder.exists() else [])


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie has ended; only its parent has not looked yet


def test_a_lab_leaves_nothing_behind() -> None:
    with Lab() as lab:
        lab_id = lab.folder.name
        lab.add_pod("web").serve(8080)
        program = lab.node.start(["sleep", "1000"])
        stray = int(lab.node.run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]).stdout)
        assert len(traces(lab_id)) == 6  # router, client, two nodes, a pod, and the folder
    assert traces(lab_id) == []
    until(lambda: not is_running(program.pid) and not is_running(stray), PATIENCE, "the programs of the lab to end")


def test_a_lab_that_fails_halfway_leaves_nothing_behind() -> None:
    before = set(leases.STATE_FOLDER.iterdir())
    with pytest.raises(LabError, match=r"at: ip link add to-a-name-that-is-too-long"):
        Lab(nodes=("a-name-that-is-too-long-for-an-interface",))
    mine = [folder for folder in set(leases.STATE_FOLDER.iterdir()) - before if _owner(folder) == os.getpid()]
    assert mine == []


def _owner(folder: Path) -> int:
    try:
        return int((folder / "owner").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return 0


CRASH = """
import os, signal, sys
from hack.lab import Lab
lab = Lab()
lab.add_pod("web").serve(8080)
print(lab.folder.name, lab.node.start(["sleep", "1000"]).pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def doomed() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", CRASH]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        yield process
        process.kill()


def test_a_dead_lab_is_removed_by_the_next_and_a_living_one_is_not(doomed: "subprocess.Popen[str]") -> None:
    assert doomed.stdout is not None
    assert doomed.stdin is not None
    lab_id, pid = doomed.stdout.readline().split()
    with Lab():
        assert len(traces(lab_id)) == 6
        assert is_running(int(pid))
    doomed.stdin.write("\n")
    doomed.stdin.flush()
    assert doomed.wait(PATIENCE) == -signal.SIGKILL
    with Lab():
        assert traces(lab_id) == []
        until(lambda: not is_running(int(pid)), PATIENCE, "the dead lab's program to end")


def test_labs_side_by_side_do_not_meet() -> None:
    with Lab() as one, Lab() as other:
        for lab, name in ((one, "of-one"), (other, "of-other")):
            lab.add_pod(name).serve(8080)
        assert one.node.ask("10.244.0.11", 8080).server == "of-one"
        assert other.node.ask("10.244.0.11", 8080).server == "of-other"


def test_each_node_has_an_xtables_lock_of_its_own() -> None:
    change = ["iptables-legacy", "--wait", "1", "-A", "INPUT", "-j", "ACCEPT"]
    with Lab() as lab, lab.node.xtables_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="xtables lock"):
            lab.node.run(change)
        lab.nodes["node-b"].run(change)
        assert "-A INPUT -j ACCEPT" in lab.nodes["node-b"].iptables_save(table="filter")


def test_without_root_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="needs root: run it with sudo"):
        Lab()


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LabError, match=r"ip: not found; hack/setup\.sh installs"):
        Lab()


def test_programs_run_on_a_host_see_its_interfaces_and_report_failure() -> None:
    with Lab() as lab:
        assert sorted(lab.node.run(["ls", "/sys/class/net"]).stdout.split()) == ["cni0", "eth0", "lo"]
        with pytest.raises(LabError, match=r"node-a: ip link show nothing: exit code 1: .*does not exist"):
            lab.node.run(["ip", "link", "show", "nothing"])


def test_a_program_is_stopped_by_sigterm_and_if_need_be_killed() -> None:
    with Lab() as lab:
        polite = lab.node.start(["sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"])
        until(lambda: "up" in polite.log(), PATIENCE, "the program to start")
        assert polite.stop() == 3
        assert polite.log() == "up\nbye\n"
        deaf = lab.node.start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"])
        until(lambda: "up" in deaf.log(), PATIENCE, "the program to start")
        with pytest.raises(LabError, match=r"sh \(process \d+\) still runs after 0.2 s"):
            deaf.stop(timeout=0.2)
        assert deaf.exit_code == -signal.SIGKILL
