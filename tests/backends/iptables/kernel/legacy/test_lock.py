"""The xtables lock: taken as iptables takes it, waited for only so long."""

import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kproxy.backends.iptables.kernel.errors import LockTimeoutError
from kproxy.backends.iptables.kernel.legacy.lock import DEFAULT_PATH, PATH_VARIABLE, XtablesLock
from tests.kit.logged import Logged
from tests.kit.netns import need, network_namespace

HOLDER = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


@contextmanager
def held_by_another_process(path: Path) -> Iterator[int]:
    """Hold a lock; yields the process' id."""
    path.touch()
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_file_is_made_locked_and_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with XtablesLock(path).held():
        assert is_locked(path)
    assert not is_locked(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_released_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ValueError, match="inside"), XtablesLock(path).held():
        raise ValueError("inside")
    assert not is_locked(path)


def test_waits_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    taken = threading.Event()
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def take() -> None:
            with XtablesLock(path, timeout=60).held():
                taken.set()

        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(0.1)
    assert taken.wait(30)
    thread.join()


def test_gives_up_and_names_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        held_by_another_process(path) as pid,
        pytest.raises(LockTimeoutError) as caught,
        XtablesLock(path, 0.05).held(),
    ):
        pass
    assert str(caught.value) == f"{path} has been held by process {pid} (python) for 0.05 seconds"


def test_goes_on_without_where_no_file_can_be_made(tmp_path: Path, logged: Logged) -> None:
    lock = XtablesLock(tmp_path / "missing folder" / "lock")
    for _ in range(2):
        with lock.held():
            pass
    (message,) = logged.messages  # once, not each time
    assert str(lock.path) in message


def test_path_is_as_iptables_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATH_VARIABLE, raising=False)
    assert XtablesLock().path == DEFAULT_PATH
    monkeypatch.setenv(PATH_VARIABLE, "/run/elsewhere.lock")
    assert XtablesLock().path == Path("/run/elsewhere.lock")
    assert XtablesLock(Path("/run/given.lock")).path == Path("/run/given.lock")


@pytest.mark.kernel
def test_it_is_the_lock_that_iptables_waits_for(tmp_path: Path) -> None:
    need("iptables-legacy")
    command = ["iptables-legacy", "--wait", "1", "-L"]
    with network_namespace(tmp_path):
        with XtablesLock().held():
            held = subprocess.run(command, capture_output=True, text=True, check=False)
        subprocess.run(command, capture_output=True, check=True)
    assert held.returncode != 0
    assert "xtables lock" in held.stderr
