"""Which labs exist, and whose they are: how a lab that crashed is cleaned up by the next one.

Every lab has a short random id; all its namespaces bear names that begin with ``kplab-ID-``, and it has a folder
``/run/kproxy-lab/ID``. In there the file ``owner`` is locked (flock) for as long as the lab's process lives: the kernel
lets go of the lock when the process ends, however it ends. So a lab whose lock can be had is nobody's, and whoever
starts a lab next removes it: kill -9, a power cut for the tests, a bug in the clean-up itself leave nothing for long.
Labs that are alive are never touched, and any number may stand side by side.
"""

import fcntl
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from hack.lab import namespaces
from hack.lab.errors import LabError

STATE_FOLDER = Path("/run/kproxy-lab")
GATE = ".gate"  # held while labs are counted or a new one is entered, so that no half-made lab is taken for a dead one


class Tenure(Protocol):
    """What a lab must know about where it stands; see `Lease`."""

    @property
    def prefix(self) -> str:
        """What the names of the lab's namespaces begin with."""

    @property
    def folder(self) -> Path:
        """For files that shall go when the lab goes."""

    def release(self) -> None:
        """Remove all that is the lab's."""


class Lease:
    """The right to a lab id, held until `release` or the end of the process."""

    def __init__(self, lab_id: str, owner_file: int) -> None:
        self.lab_id = lab_id
        self._owner_file = owner_file

    @property
    def prefix(self) -> str:
        """What the names of this lab's namespaces begin with."""
        return _prefix(self.lab_id)

    @property
    def folder(self) -> Path:
        """For files that shall go when the lab goes."""
        return STATE_FOLDER / self.lab_id

    def release(self) -> None:
        """Remove all that bears this lab's id, then give the id back."""
        with _gate():
            _remove(self.lab_id)
            os.close(self._owner_file)


def acquire() -> Lease:
    """Remove what dead labs left behind and take a new id. Raises LabError without root's rights."""
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and needs root: run it with sudo")
    with _gate():
        _sweep()
        lab_id = secrets.token_hex(2)
        while (STATE_FOLDER / lab_id).exists():
            lab_id = secrets.token_hex(2)
        (STATE_FOLDER / lab_id).mkdir()
        owner_file = os.open(_owner(lab_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(owner_file, fcntl.LOCK_EX)
        os.write(owner_file, f"{os.getpid()}\n".encode())
        return Lease(lab_id, owner_file)


def _sweep() -> None:
    for folder in STATE_FOLDER.iterdir():
        if folder.name != GATE and _is_dead(folder.name):
            _remove(folder.name)


def _is_dead(lab_id: str) -> bool:
    try:
        file = os.open(_owner(lab_id), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def _remove(lab_id: str) -> None:
    names = namespaces.existing(_prefix(lab_id))
    for pid in namespaces.processes_in(names):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    namespaces.delete_all(names)
    shutil.rmtree(STATE_FOLDER / lab_id, ignore_errors=True)


def _prefix(lab_id: str) -> str:
    return f"kplab-{lab_id}-"


def _owner(lab_id: str) -> Path:
    return STATE_FOLDER / lab_id / "owner"


@contextmanager
def _gate() -> Iterator[None]:
    STATE_FOLDER.mkdir(parents=True, exist_ok=True)
    file = os.open(STATE_FOLDER / GATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
