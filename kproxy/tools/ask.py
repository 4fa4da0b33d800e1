"""Asks the kproxy that runs on this node, by its socket."""

import errno
import socket
from pathlib import Path

import msgspec

from kproxy.config import Config
from kproxy.explain.protocol import Questions, Reply
from kproxy.explain.question import QuestionError
from kproxy.node.door import socket_path

_PATIENCE_SECONDS = 60.0


class NoAnswerError(Exception):
    """Nobody could answer; the message says who was asked, why not, and what helps."""


def ask_daemon(config: Config, question: Questions) -> msgspec.Raw:
    """Return the document that the daemon gives for an answer.

    Raises:
        NoAnswerError: where there is no daemon to ask, or it cannot tell.
        QuestionError: where the question is at fault.
    """
    path = socket_path(config.kproxy.state_directory)
    try:
        reply = msgspec.json.decode(
            exchange(path, msgspec.json.encode(question) + b"\n", _PATIENCE_SECONDS), type=Reply
        )
    except OSError as error:
        raise NoAnswerError(_explain(path, error)) from None
    except msgspec.DecodeError:
        raise NoAnswerError(f"the kproxy at {path} gave no answer; does it run in another version?") from None
    if reply.misuse:
        raise QuestionError(reply.error)
    if reply.error is not None:
        raise NoAnswerError(reply.error)
    return reply.answer


def exchange(path: Path, question: bytes, seconds: float) -> bytes:
    """Send a question to a program's socket and return all that it answers, if it is never silent for so long.

    Raises OSError.
    """
    parts = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(seconds)
        asker.connect(str(path))
        asker.sendall(question)
        while part := asker.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def _explain(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return f"no kproxy answers at {path}: is it running on this node, in this network namespace?"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} is for root alone; try with sudo"
    return f"asking the kproxy at {path}: {error.strerror or error}"
