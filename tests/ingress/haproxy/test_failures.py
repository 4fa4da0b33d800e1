"""What goes wrong while a plan is brought into force leaves the last one serving, and nothing that would add up."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kproxy.ingress.haproxy import refusals
from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.errors import EngineError
from kproxy.ingress.plan.model import Bind, Plan
from tests.ingress.haproxy.kit import engine, get, ingress, slices
from tests.ingress.kit import planned
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("three")]

HOST = "a.example.com"
MORE = 8081
WEB, OTHER = slices("web", ["10.1.0.1"]), slices("web", ["10.1.0.2"])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte, in which the state directory is."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path) as made:
        made.apply(planned(WEB, ingress(HOST, "web")).plan)
        yield made


def with_another_port(endpoints: str) -> Plan:
    """Return a plan that has HAProxy listen at one more port, for which it has to be reloaded."""
    plan = planned(endpoints, ingress(HOST, "web")).plan
    first = msgspec.structs.replace(plan.frontends[0], binds=(*plan.frontends[0].binds, Bind("", MORE)))
    return msgspec.structs.replace(plan, frontends=(first, *plan.frontends[1:]))


def generations(tmp_path: Path) -> list[str]:
    return sorted(folder.name for folder in (tmp_path / "state").glob("generation-*"))


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Take all the room that there is left on a disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(256))
    yield
    filler.unlink()


@contextlib.contextmanager
def reload_failed(one: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a reload fail, as it does where somebody takes a port after kproxy has seen that it is free."""
    with monkeypatch.context() as patch, socket.create_server(("0.0.0.0", MORE)):
        patch.setattr(refusals, "why_not_bind", lambda *_args, **_more: None)
        with pytest.raises(EngineError, match=f"did not take the configuration up: .*:{MORE}"):
            one.apply(with_another_port(OTHER))
        yield


def master(folder: Path) -> int:
    return int((folder / "state/haproxy.pid").read_text())


def test_a_reload_that_fails_leaves_the_last_state_serving(
    one: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = master(tmp_path), generations(tmp_path)
    with reload_failed(one, monkeypatch):
        one._revive()  # what `watch` does when it is woken for any reason
        with pytest.raises(EngineError):
            one.apply(with_another_port(OTHER))
        assert get(HOST).pod == "a"
        assert (master(tmp_path), generations(tmp_path)) == before
        assert (one.totals.failed_reloads, one.totals.restarts) == (2, 0)
        assert (tmp_path / "state/current").readlink().name == "generation-1"
    assert one.apply(with_another_port(OTHER)).reloaded == "kproxy does not know its state"
    assert get(HOST, port=MORE).pod == "b"


def test_haproxy_that_dies_after_a_reload_that_failed_comes_back_as_it_was(
    one: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reload_failed(one, monkeypatch):
        os.kill(master(tmp_path), signal.SIGKILL)
        eventually(lambda: one.totals.restarts == 1)
        eventually(one.is_serving)
        assert get(HOST).pod == "a"


def test_where_the_disk_is_full_the_last_state_serves_until_there_is_room(disk: Path) -> None:
    with engine(disk) as made:
        made.apply(planned(WEB, ingress(HOST, "web")).plan)
        with full(disk):
            with pytest.raises(EngineError, match=os.strerror(errno.ENOSPC)):
                made.apply(with_another_port(OTHER))
            assert generations(disk) == ["generation-1"]
            assert get(HOST).pod == "a"
            made.apply(planned(OTHER, ingress(HOST, "web")).plan)  # which takes no reload
            assert get(HOST).pod == "b"
        assert made.apply(with_another_port(OTHER)).reloaded is not None
        assert get(HOST, port=MORE).pod == "b"


def test_haproxy_that_dies_where_the_disk_is_full_comes_back_when_there_is_room(disk: Path) -> None:
    said: list[str] = []
    with engine(disk, said) as made:
        made.apply(planned(WEB, ingress(HOST, "web")).plan)
        with full(disk):
            os.kill(master(disk), signal.SIGKILL)
            eventually(lambda: any(os.strerror(errno.ENOSPC) in line for line in said))
        eventually(made.is_serving)
        assert get(HOST).pod == "a"
