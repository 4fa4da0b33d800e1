"""Asking a Service from inside a namespace, and what came of it as data.

`ask` is one connection, datagram or handshake. `ask_many` is a series of them, tallied. `Connection` is one that stays
open, `Flow` a UDP client that keeps its port, `Load` a client that never stops asking while a test changes the world.
The functions here use whatever namespace the calling thread is in; `hack.lab.hosts.Host` has them as methods, which
step into the host's namespace first.
"""

import errno
import itertools
import math
import os
import secrets
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

import msgspec

from hack.lab import sctp
from hack.lab.servers import DATAGRAM_LIMIT, SOCKET_KINDS

DEFAULT_TIMEOUT = 3.0  # seconds: longer than TCP takes to send a lost first packet again
NOTE_PAUSE = 0.02  # seconds between two looks for the note of an ICMP error, see _connect
MISSES_THAT_END_A_SERIES = 3  # each costs a whole timeout


class Outcome(StrEnum):
    """What became of one try."""

    ANSWERED = "answered"
    REFUSED = "refused"  # somebody said no at once: a REJECT rule, or a host where nothing listens
    DROPPED = "dropped"  # nobody said anything
    UNREACHABLE = "unreachable"  # a router said that there is no way
    CUT = "cut"  # connected, but ended before the server had told its name


class Answer(msgspec.Struct, frozen=True):
    """One try: the outcome, how long it took in seconds and, if answered, which server saw which client.

    `sent_again` tells how often TCP had sent its first packet again by then: with 0, that very packet was answered.
    """

    outcome: Outcome
    seconds: float
    server: str = ""
    source: str = ""
    source_port: int = 0
    sent_again: int = 0


class Tally(msgspec.Struct, frozen=True):
    """A series of tries. The counters hold numbers of tries by outcome, by server, and by source address seen."""

    answers: tuple[Answer, ...]

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Tries by outcome."""
        return Counter(answer.outcome for answer in self.answers)

    @property
    def servers(self) -> Counter[str]:
        """Answered tries by the name of the server."""
        return Counter(answer.server for answer in self.answers if answer.outcome is Outcome.ANSWERED)

    @property
    def sources(self) -> Counter[str]:
        """Answered tries by the client address that the server saw."""
        return Counter(answer.source for answer in self.answers if answer.outcome is Outcome.ANSWERED)

    @property
    def failures(self) -> tuple[Answer, ...]:
        """The tries that were not answered."""
        return tuple(answer for answer in self.answers if answer.outcome is not Outcome.ANSWERED)


_PORTS = range(32768, 60768)
_next_port = itertools.cycle((*_PORTS[(start := secrets.randbelow(len(_PORTS))) :], *_PORTS[:start]))
"""Own ports of UDP and SCTP clients, one after the other: of ports by chance, one comes again while conntrack still
leads it to where it went. (The kernel does so by itself for TCP, see RFC 6056.)"""


def _open_socket(address: str, protocol: str, timeout: float, source: str, source_port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind, number = SOCKET_KINDS[protocol]
    sock = socket.socket(family, kind, number)
    sock.settimeout(timeout)
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
    if protocol == "UDP" and not source_port:
        _bind_to_next_port(sock, source or wildcard)
    elif source or source_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source or wildcard, source_port))
    return sock


def _bind_to_next_port(sock: socket.socket, source: str) -> None:
    for port in _next_port:
        try:
            sock.bind((source, port))
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


def _outcome_of(error: OSError) -> Outcome:
    if isinstance(error, ConnectionRefusedError):
        return Outcome.REFUSED
    if isinstance(error, ConnectionError):
        return Outcome.CUT
    if isinstance(error, TimeoutError):
        return Outcome.DROPPED
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT):
        return Outcome.UNREACHABLE
    raise error


def _greeted(line: bytes, started: float) -> Answer:
    """Take apart the first line of a server, see `hack.lab.servers`."""
    seconds = time.perf_counter() - started
    if not line.endswith(b"\n"):
        return Answer(Outcome.CUT, seconds)
    name, source, port = line.decode().split()
    return Answer(Outcome.ANSWERED, seconds, name, source, int(port))


def _connect(sock: socket.socket, address: str, port: int) -> None:
    """connect(2) that hears a refusal at once even where all the lab's packets travel on one CPU.

    There an ICMP error can come back while the kernel is still busy sending the SYN. The kernel then only makes a note
    of it (for IPv6; ``TcpExtLockDroppedIcmps`` counts them) and connect(2) waits for the second SYN, a second later.
    Between machines the error would not be that quick. Asking for SO_ERROR reads the note; as another CPU may be about
    to make it, it is asked for more than once.
    """
    timeout = sock.gettimeout()
    sock.setblocking(False)
    code = sock.connect_ex((address, port))
    if code == errno.EINPROGRESS:
        code = _outcome_of_connect(sock, timeout)
    if code:
        raise OSError(code, os.strerror(code))
    sock.settimeout(timeout)


def _outcome_of_connect(sock: socket.socket, timeout: float | None) -> int:
    """Wait for what becomes of a connect(2) that is under way, and return its error or 0."""
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    ready = select.poll()
    ready.register(sock, select.POLLOUT)
    while True:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return code
        left = deadline - time.monotonic()
        if left <= 0:
            return errno.ETIMEDOUT
        if ready.poll(min(left, NOTE_PAUSE) * 1000):
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _tcp_greeting(sock: socket.socket, address: str, port: int, source_port: int = 0) -> bytes:  # noqa: ARG001
    _connect(sock, address, port)
    line = b""
    while not line.endswith(b"\n") and (more := sock.recv(DATAGRAM_LIMIT)):
        line += more
    return line


def _udp_greeting(sock: socket.socket, address: str, port: int, source_port: int = 0) -> bytes:  # noqa: ARG001
    sock.connect((address, port))
    sock.send(b"who are you?\n")
    return sock.recv(DATAGRAM_LIMIT)


def _sctp_greeting(sock: socket.socket, address: str, port: int, source_port: int = 0) -> bytes:
    sock.connect((address, 0))
    own_tag = sctp.new_tag()
    own_port = source_port or next(_next_port)
    sock.send(sctp.encode(sctp.Packet(sctp.INIT, own_port, port, 0, own_tag, b"")))
    deadline = time.monotonic() + (sock.gettimeout() or 0)
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        packet = sctp.decode(sctp.payload(sock.recv(DATAGRAM_LIMIT), sock.family == socket.AF_INET6))
        if packet and packet.chunk == sctp.INIT_ACK and packet.verification_tag == own_tag:
            return packet.cookie
    raise TimeoutError


_GREETINGS: dict[str, Callable[[socket.socket, str, int, int], bytes]] = {
    "TCP": _tcp_greeting,
    "UDP": _udp_greeting,
    "SCTP": _sctp_greeting,
}


def ask(
    address: str,
    port: int,
    protocol: str = "TCP",
    *,
    timeout: float = DEFAULT_TIMEOUT,
    source: str = "",
    source_port: int = 0,
) -> Answer:
    """Ask once who answers at `address` and `port`. Never raises for what the network does: that is the answer."""
    with _open_socket(address, protocol, timeout, source, source_port) as sock:
        started = time.perf_counter()
        try:
            return _greeted(_GREETINGS[protocol](sock, address, port, source_port), started)
        except OSError as error:
            seconds = time.perf_counter() - started
            return Answer(_outcome_of(error), seconds, sent_again=_sent_again(sock) if protocol == "TCP" else 0)


def _sent_again(sock: socket.socket) -> int:
    """How many packets a TCP socket has sent more than once: tcpi_total_retrans of linux/tcp.h."""
    (total,) = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)
    return int(total)


def ask_many(
    address: str,
    port: int,
    protocol: str = "TCP",
    *,
    times: int = 100,
    timeout: float = DEFAULT_TIMEOUT,
    source: str = "",
) -> Tally:
    """Ask `times` times, one after the other, each from a new source port. A few dropped tries end the series."""
    answers: list[Answer] = []
    dropped = 0
    while len(answers) < times and dropped < MISSES_THAT_END_A_SERIES:
        answers.append(ask(address, port, protocol, timeout=timeout, source=source))
        dropped += answers[-1].outcome is Outcome.DROPPED
    return Tally(tuple(answers))


class _OpenSocket:
    """Something with a socket that ends with the ``with`` block, or by `close`."""

    _socket: socket.socket

    def close(self) -> None:
        """Close the socket: a TCP connection says goodbye properly (FIN), a UDP port is free again."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Connection(_OpenSocket):
    """A TCP connection that stays open. Raises OSError as connect(2) does if there is no one to connect to."""

    def __init__(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT, source: str = "") -> None:
        self._socket = _open_socket(address, "TCP", timeout, source, 0)
        try:
            self.greeting = _greeted(_tcp_greeting(self._socket, address, port), time.perf_counter())
        except OSError:
            self._socket.close()
            raise

    @property
    def server(self) -> str:
        """The name of the server at the other end."""
        return self.greeting.server

    def echo(self, text: bytes = b"still there?\n") -> bool:
        """Whether the server still repeats what it is told."""
        heard = b""
        try:
            self._socket.sendall(text)
            while len(heard) < len(text) and (more := self._socket.recv(DATAGRAM_LIMIT)):
                heard += more
        except OSError:
            return False
        return heard == text


class Flow(_OpenSocket):
    """A UDP client that keeps its source port: to conntrack, all its datagrams are one connection."""

    def __init__(self, address: str, port: int, *, source: str = "", source_port: int = 0) -> None:
        self._socket = _open_socket(address, "UDP", DEFAULT_TIMEOUT, source, source_port)
        self._socket.connect((address, port))

    def ask(self, timeout: float = 0.5) -> Answer:
        """Send one datagram and wait `timeout` seconds for its answer."""
        self._discard_late_answers()
        self._socket.settimeout(timeout)
        started = time.perf_counter()
        try:
            self._socket.send(b"who are you?\n")
            return _greeted(self._socket.recv(DATAGRAM_LIMIT), started)
        except OSError as error:
            return Answer(_outcome_of(error), time.perf_counter() - started)

    def _discard_late_answers(self) -> None:
        self._socket.settimeout(0)
        try:
            while self._socket.recv(DATAGRAM_LIMIT):
                pass
        except OSError:
            return


class Load:
    """Calls `ask_once` over and over in a thread of its own, from ``with`` to the end of the block."""

    def __init__(self, ask_once: Callable[[], Answer], every: float) -> None:
        self._ask_once = ask_once
        self._every = every
        self._answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lab load", daemon=True)

    @property
    def tally(self) -> Tally:
        """What has been seen so far."""
        return Tally(tuple(self._answers))

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._answers.append(self._ask_once())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
