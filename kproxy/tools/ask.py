"""Asks a program that runs on this node, by its socket: kproxy, or ``kproxy ingress``."""

import errno
import socket
from pathlib import Path
from typing import TypeVar

import msgspec

from kproxy.config import Config
from kproxy.explain.protocol import Questions, Reply
from kproxy.explain.question import QuestionError
from kproxy.faults.undecodable import UNDECODABLE
from kproxy.node.door import socket_path

_PATIENCE_SECONDS = 60.0

S = TypeVar("S", bound=msgspec.Struct)


class NoAnswerError(Exception):
    """Nobody could answer; the message says who was asked, why not, and what helps."""


def ask_daemon(config: Config, question: Questions) -> msgspec.Raw:
    """Return the document that the daemon gives for an answer.

    Raises:
        NoAnswerError: where there is no daemon to ask, or it cannot tell.
        QuestionError: where the question is at fault.
    """
    path, remedy = socket_path(config.kproxy.state_directory), "is it running on this node, in this network namespace?"
    reply = ask(path, question, Reply, who="kproxy", remedy=remedy, seconds=_PATIENCE_SECONDS)
    if reply.misuse:
        raise QuestionError(reply.error)
    if reply.error is not None:
        raise NoAnswerError(reply.error)
    return reply.answer


def ask(path: Path, question: msgspec.Struct, reply: type[S], *, who: str, remedy: str, seconds: float) -> S:
    """Ask the program at a socket, and return what it replies if it is never silent for so many seconds.

    ``who`` is the program's name, ``remedy`` what helps where it is not there. Raises NoAnswerError.
    """
    try:
        return msgspec.json.decode(_exchange(path, msgspec.json.encode(question) + b"\n", seconds), type=reply)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            raise NoAnswerError(f"no {who} answers at {path}: {remedy}") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NoAnswerError(f"{path} is for root alone; try with sudo") from None
        raise NoAnswerError(f"asking the {who} at {path}: {error.strerror or error}") from None
    except UNDECODABLE:
        raise NoAnswerError(f"the {who} at {path} gave no answer; does it run in another version?") from None


def _exchange(path: Path, question: bytes, seconds: float) -> bytes:
    parts = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(seconds)
        asker.connect(str(path))
        asker.sendall(question)
        while part := asker.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)
