"""A program that is asked by its socket, and answers with bytes that make no sense, or not at all."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kproxy.explain.protocol import Reply, StatusQuestion
from kproxy.tools.ask import NoAnswerError, ask


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A socket that answers one question."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen()
        door.settimeout(20.0)

        def serve() -> None:
            asker, _ = door.accept()
            with asker:
                asker.recv(1 << 16)
                asker.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def asked(path: Path) -> Reply:
    return ask(path, StatusQuestion(), Reply, who="kproxy", remedy="start it", seconds=20.0)


def test_what_it_replies_is_returned(tmp_path: Path) -> None:
    with answering(tmp_path / "door", b'{"error":"busy"}'):
        assert asked(tmp_path / "door").error == "busy"


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b'{"error":', b'{"error":"\xc3"}', b'{"answer":' + b"[" * 100_000],
    ids=lambda answer: str(answer[:20]),
)
def test_bytes_that_make_no_sense_are_no_answer(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "door", answer), pytest.raises(NoAnswerError, match="gave no answer; does it run in ano"):
        asked(tmp_path / "door")


def test_where_nobody_is_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError, match=f"^no kproxy answers at {tmp_path}/door: start it$"):
        asked(tmp_path / "door")
