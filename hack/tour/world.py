"""A world for one chapter, in which its commands are exactly those that one would type on a spare machine.

``ip link add docker0 type bridge`` on the reader's own machine would change that machine. So each chapter runs in
namespaces of its own (`ENTER`): a network that begins with nothing but a loopback interface, a ``/run`` where names of
network namespaces and locks are kept, a host name, and a set of processes. It is the trick the whole tour is about, and
it cleans up by itself: when the first process of a world ends, be it by kill -9, the kernel ends all others, and with
the last of them go the namespaces, the mounts and the interfaces.

Within a world nothing has to carry a prefix, so that a namespace may be called ``red``, and any number of tours may
run side by side.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hack.lab.errors import LabError, run
from hack.lab.processes import REPOSITORY

ENTER = (
    *("setpriv", "--pdeathsig", "KILL"),  # when whoever started the chapter ends, so does the chapter
    "unshare",
    *("--mount", "--propagation", "private"),  # mounts of ours are seen by nobody else
    *("--net", "--uts", "--ipc"),
    *("--pid", "--fork", "--kill-child"),  # a process tree of our own, which ends when we do
)
FOLDER = Path("/run/tour")  # within a world: where the chapter's files are and its commands are typed


def enter(module: str, arguments: Sequence[str]) -> int:
    """Run ``python -m MODULE ARGUMENTS`` in a new world and return its exit code. Needs root."""
    if os.geteuid() != 0:
        raise LabError("the tour makes network namespaces and needs root: sudo hack/tour.sh")
    command = [*ENTER, sys.executable, "-m", module, *arguments]
    try:
        return subprocess.run(command, check=False, cwd=REPOSITORY).returncode
    except FileNotFoundError:
        raise LabError(f"{ENTER[0]}: not found; Debian's package util-linux has it") from None


def settle() -> int:
    """Furnish a new world, from inside. Returns the process id by which others see us, for nsenter."""
    outside_id = int(str(Path("/proc/self").readlink()))  # still the old /proc, which counts as the machine does
    for mount in (
        ["-t", "proc", "proc", "/proc"],
        ["-t", "sysfs", "sysfs", "/sys"],  # /sys/class/net shows the network it was mounted in
        ["-t", "tmpfs", "-o", "mode=755", "tour", "/run"],
    ):
        run(["mount", *mount])
    _own_etc()
    run(["hostname", "machine"])
    run(["ip", "link", "set", "lo", "up"])
    FOLDER.mkdir()
    return outside_id


def _own_etc() -> None:
    """A copy of /etc in place of the machine's, so that names are looked up as the chapter says.

    There is nobody to ask at first: what looks for a name shall not wait for the machine's DNS server, which is out of
    reach. ``ip netns exec NAME`` puts what it finds in ``/etc/netns/NAME`` in the place of files of /etc.
    """
    run(["cp", "-a", "/etc", "/run/etc"])
    run(["mount", "--bind", "/run/etc", "/etc"])
    Path("/etc/netns").mkdir(exist_ok=True)
    resolver = Path("/etc/resolv.conf")
    resolver.unlink(missing_ok=True)  # it may be a link to what is out of sight now
    resolver.write_text("# nobody to ask\n")
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write("\n127.0.1.1 machine\n")


class WholeWorld(NamedTuple):
    """The lease of a lab that has a world to itself: its names need no prefix, and it goes with the world."""

    prefix: str = ""
    folder: Path = Path("/run/lab")

    def release(self) -> None:
        """Nothing to do."""


def environment() -> Mapping[str, str]:
    """What the chapter's commands see: kproxy and Python of the checkout come first."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}


def walk_around(outside_id: int) -> None:
    """Leave the reader in the world until they leave it: a shell on this terminal, and a way in from others."""
    print(f"\n  The chapter stands. In another terminal: nsenter --target {outside_id} --all")
    print("  Here is a shell in it; `exit` goes on.", flush=True)
    subprocess.run(["bash"], check=False, cwd=FOLDER, env={**environment(), "PS1": "tour# "})
