"""The access log's way from HAProxy's standard output to kproxy's."""

import io
import os
import threading
from pathlib import Path

import pytest

from kproxy.ingress.daemon.accesslog import access_log
from kproxy.ingress.haproxy.control.pipe import open_pipe
from tests.kit.logged import Logged


class Out(io.BytesIO):
    """What has been written, and a sign of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def flush(self) -> None:
        self.written.set()


@pytest.fixture
def haproxy(tmp_path: Path) -> int:
    return open_pipe(tmp_path / "log.pipe")


def test_lines_come_through_in_order_whatever_their_number(tmp_path: Path, haproxy: int) -> None:
    out = Out()
    lines = [f"{number:05} GET /\n".encode() for number in range(2_000)]
    with access_log(tmp_path / "log.pipe", out):
        for line in lines:
            os.write(haproxy, line)
        assert out.written.wait(10)
    assert out.getvalue() == b"".join(lines)


def test_lines_wait_for_the_next_kproxy(tmp_path: Path, haproxy: int) -> None:
    first, second = Out(), Out()
    with access_log(tmp_path / "log.pipe", first):
        os.write(haproxy, b"one\n")
        assert first.written.wait(10)
    os.write(haproxy, b"two\n")
    with access_log(tmp_path / "log.pipe", second):
        assert second.written.wait(10)
    assert (first.getvalue(), second.getvalue()) == (b"one\n", b"two\n")


def test_what_a_process_says_at_its_end_is_no_request(tmp_path: Path, haproxy: int) -> None:
    out = Out()
    os.write(haproxy, b"one\nProxy f80 stopped (cumulated conns: FE: 4, BE: 0).\ntwo\n")
    with access_log(tmp_path / "log.pipe", out):
        assert out.written.wait(10)
    assert out.getvalue() == b"one\ntwo\n"


def test_nobody_waits_for_a_reader(haproxy: int) -> None:
    def fill() -> None:
        for _ in range(10_000):
            os.write(haproxy, b"x" * 1_000)

    with pytest.raises(BlockingIOError):
        fill()


def test_what_is_no_pipe_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "log.pipe").write_text("a file\n")
    out = Out()
    with access_log(tmp_path / "log.pipe", out):
        os.write(open_pipe(tmp_path / "log.pipe"), b"one\n")
        assert out.written.wait(10)
    assert out.getvalue() == b"one\n"


def test_without_a_pipe_there_is_no_access_log_and_one_line_says_so(tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "file").touch()
    with access_log(tmp_path / "file/log.pipe", Out()):
        pass
    assert "no access log" in logged.text


def test_lines_that_nobody_reads_any_more_wait_for_the_next_kproxy(tmp_path: Path, haproxy: int) -> None:
    class Gone(Out):
        def write(self, _: object) -> int:
            self.written.set()
            raise BrokenPipeError

    gone, out = Gone(), Out()
    with access_log(tmp_path / "log.pipe", gone):
        os.write(haproxy, b"one\n")
        assert gone.written.wait(10)
    os.write(haproxy, b"two\n")
    with access_log(tmp_path / "log.pipe", out):
        assert out.written.wait(10)
    assert out.getvalue() == b"two\n"
