"""Talks to a worker of HAProxy's through its runtime socket (management manual, section 9.3)."""

import re
import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from kproxy.ingress.haproxy.errors import RefusedError, UnreachableError
from kproxy.ingress.haproxy.text.diff import Command

_TIMEOUT_S = 10.0
_PROMPT = b"\n> "
_LINE_PROMPTS = re.compile(r"^(?:\+ ?)+")
_VERSION = re.compile(r"New version created: (\d+)")


class RuntimeSocket:
    """One connection, in interactive mode: one command after another, each with its answer."""

    def __init__(self, path: Path, timeout_s: float = _TIMEOUT_S) -> None:
        """Raises UnreachableError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._version = ""
        try:
            self._socket.connect(str(path))
            self.ask("prompt")
        except OSError as error:
            self._socket.close()
            raise UnreachableError(f"{path}: {error.strerror or error}") from error
        except UnreachableError:
            self._socket.close()
            raise

    def __enter__(self) -> "RuntimeSocket":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, text: str, payload: str = "") -> str:
        """Return the answer to one command. Raises UnreachableError."""
        sent = f"{text} <<\n{payload}\n\n" if payload else f"{text}\n"
        try:
            self._socket.sendall(sent.encode())
            answer = self._read()
        except OSError as error:
            raise UnreachableError(f"HAProxy does not answer to {text.split(' ')[0]}: {error}") from error
        return _LINE_PROMPTS.sub("", answer) if payload else answer

    def carry_out(self, commands: Iterable[Command]) -> None:
        """Send commands until one goes wrong. Raises RefusedError, or UnreachableError."""
        for command in commands:
            answer = self.ask(command.text.replace("@", self._version, 1), command.payload)
            if not _is_good(answer, command.good):
                raise RefusedError(f"{command.text}: {answer.splitlines()[0] if answer else 'no answer'}")
            version = _VERSION.match(answer)
            if version is not None:
                self._version = f"@{version.group(1)}"

    def _read(self) -> str:
        received = b""
        while not received.endswith(_PROMPT):
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise UnreachableError("HAProxy has closed its runtime socket")
            received += chunk
        return received.removesuffix(_PROMPT).decode(errors="replace").strip()


def _is_good(answer: str, good: tuple[str, ...]) -> bool:
    return any(answer.startswith(start) if start else not answer for start in good)


def worker_of(path: Path) -> tuple[int, int]:
    """Return the process id of the worker behind ``path``, and when it was started. Raises UnreachableError."""
    with RuntimeSocket(path, timeout_s=2.0) as runtime:
        told = dict(line.split(": ", 1) for line in runtime.ask("show info").splitlines() if ": " in line)
    try:
        return int(told["Pid"]), int(told.get("Start_time_sec", "0"))
    except (KeyError, ValueError) as error:
        raise UnreachableError(f"{path}: HAProxy does not say which process it is") from error
