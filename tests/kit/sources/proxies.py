"""Proxies for tests: HTTP with CONNECT (over TLS if wanted) and absolute URLs, and SOCKS5. They remember who asked.

Names that no resolver knows are given to a proxy in ``hosts``, so that a test sees who resolves them: ``{"k8s.corp":
"127.0.0.1"}``. A proxy runs for as long as its ``with`` block.
"""

import base64
import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

_PATIENCE = 20.0


class Asked(NamedTuple):
    """One connection that a client wanted; ``login`` is ``user:password`` or empty."""

    host: str
    port: int
    login: str


class ProxyServer:
    """What both kinds have in common: a listener, a thread for each connection, and the passing on of bytes."""

    scheme = ""

    def __init__(
        self, *, hosts: Mapping[str, str] | None = None, login: str = "", context: ssl.SSLContext | None = None
    ) -> None:
        self.asked: list[Asked] = []
        self.login = login
        """``user:password`` to ask for."""
        self._hosts = hosts or {}
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """Where it is, with its login."""
        at = f"{self.login}@" if self.login else ""
        return f"{self.scheme}://{at}127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(self, client: socket.socket) -> None:
        """Serve one connection."""
        raise NotImplementedError

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to what a client asked for. Raises OSError."""
        return socket.create_connection((self._hosts.get(host, host), port), timeout=_PATIENCE)

    def pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Pass bytes on, both ways, until either end closes."""
        self._ends.add(server)
        ends = {client: server, server: client}
        with server:
            while True:
                pending = isinstance(client, ssl.SSLSocket) and client.pending()
                for ready in [client] if pending else select.select(list(ends), [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    ends[ready].sendall(data)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client:
            client.settimeout(_PATIENCE)
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            self._ends.add(client)
            with client:
                self.serve(client)


class HttpProxy(ProxyServer):
    """``refuse`` is a status line to answer CONNECT with instead of doing it: ``403 Forbidden``."""

    def __init__(
        self,
        *,
        hosts: Mapping[str, str] | None = None,
        login: str = "",
        context: ssl.SSLContext | None = None,
        refuse: str = "",
    ) -> None:
        super().__init__(hosts=hosts, login=login, context=context)
        self.scheme = "http" if context is None else "https"
        self._refuse = refuse

    def serve(self, client: socket.socket) -> None:
        head = _read_head(client)
        if not head:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        login = _basic(fields.get("Proxy-Authorization", ""))
        authority = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = authority.rpartition(":")
        host = host.strip("[]")
        self.asked.append(Asked(host, int(port), login))
        if self.login and login != self.login:
            client.sendall(b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n')
        elif self._refuse:
            client.sendall(f"HTTP/1.1 {self._refuse}\r\nContent-Length: 0\r\n\r\n".encode())
        elif method == "CONNECT":
            self._tunnel(client, host, int(port))
        else:
            server = self.connect(host, int(port))
            server.sendall(head.replace(target.encode(), b"/" + target.split("/", 3)[3].encode(), 1))
            self.pass_on(client, server)

    def _tunnel(self, client: socket.socket, host: str, port: int) -> None:
        try:
            server = self.connect(host, port)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.pass_on(client, server)


class SocksProxy(ProxyServer):
    """SOCKS5 (RFC 1928), with user and password (RFC 1929) if it is given a login."""

    scheme = "socks5"

    def serve(self, client: socket.socket) -> None:
        version, count = _read(client, 2)
        if version != 5:
            return
        methods = _read(client, count)
        wanted = 2 if self.login else 0
        if wanted not in methods:
            client.sendall(b"\x05\xff")
            return
        client.sendall(bytes([5, wanted]))
        login = self._read_login(client) if self.login else ""
        if login != self.login:
            return
        _, _, _, kind = _read(client, 4)
        host = _read_host(client, kind)
        (port,) = struct.unpack("!H", _read(client, 2))
        self.asked.append(Asked(host, port, login))
        try:
            server = self.connect(host, port)
        except OSError:
            client.sendall(b"\x05\x05\x00\x01" + bytes(6))  # connection refused
            return
        client.sendall(b"\x05\x00\x00\x01" + bytes(6))
        self.pass_on(client, server)

    def _read_login(self, client: socket.socket) -> str:
        _, length = _read(client, 2)
        user = _read(client, length).decode()
        password = _read(client, _read(client, 1)[0]).decode()
        good = f"{user}:{password}" == self.login
        client.sendall(bytes([1, 0 if good else 1]))
        return f"{user}:{password}"


def _read_host(client: socket.socket, kind: int) -> str:
    if kind == 1:
        return socket.inet_ntop(socket.AF_INET, _read(client, 4))
    if kind == 4:
        return socket.inet_ntop(socket.AF_INET6, _read(client, 16))
    return _read(client, _read(client, 1)[0]).decode()


def _read(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = client.recv(length - len(data))
        if not more:
            raise ConnectionError("the client has gone")
        data += more
    return data


def _read_head(client: socket.socket) -> bytes:
    """Read the head of a request; nothing, if it is none, but TLS or SOCKS."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(1 << 16)
        if not more:
            raise ConnectionError("the client has gone")
        head += more
        if head.startswith((b"\x16", b"\x05")):
            return b""
    return head


def _basic(header: str) -> str:
    scheme, _, value = header.partition(" ")
    return base64.b64decode(value).decode() if scheme == "Basic" else ""
