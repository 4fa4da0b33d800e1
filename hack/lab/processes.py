"""Programs inside a namespace: kproxy on its node, iptables, tcpdump in a pod.

`ip netns exec` puts a program into the namespace, and into a mount namespace where /sys is that namespace's. There each
host of the lab also gets an iptables lock of its own: a file of the lab, mounted over /run/xtables.lock. So the lock is
one per *node*, as it is in a cluster. Otherwise every lab would queue for the lock of the machine, and a test that
holds the lock on purpose would stop all others, and the machine's own iptables with them.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.lab.errors import LabError

REPOSITORY = Path(__file__).resolve().parents[2]
XTABLES_LOCK = Path("/run/xtables.lock")
STOP_TIMEOUT = 30.0
"""Seconds for a program to end. kproxy takes a fifth of one; where other things keep the machine busy, far longer."""


def inside(namespace: str, lock: Path, command: Sequence[str]) -> list[str]:
    """The command line that becomes `command`, in a namespace and with the file `lock` as iptables' lock."""
    XTABLES_LOCK.touch(mode=0o600)  # there must be a file to mount over; iptables would make it too
    mount_then_become = f'mount --bind "$0" {XTABLES_LOCK} && exec "$@"'
    return ["ip", "netns", "exec", namespace, "sh", "-c", mount_then_become, str(lock), *command]


class Process:
    """A program that keeps running. What it prints goes to a file; see `log`."""

    def __init__(self, command: Sequence[str], wrapped: Sequence[str], log_file: Path, env: Mapping[str, str]) -> None:
        self.command = tuple(command)
        self._log_file = log_file
        with log_file.open("wb") as out:
            self._popen = subprocess.Popen(
                wrapped, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=env
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the number of the signal that ended it."""
        return self._popen.poll()

    def log(self) -> str:
        """All it has printed so far, on either stream."""
        return self._log_file.read_text(errors="replace")

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for it to end by itself and return its exit code. Raises LabError when it has not after `timeout` s."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.command[0]} (process {self.pid}) still runs after {timeout:g} s") from None

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM, wait, return the exit code. One that does not end within `timeout` s is killed: LabError."""
        self._popen.terminate()
        try:
            return self.wait(timeout)
        except LabError:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._popen.kill()
        self._popen.wait()
