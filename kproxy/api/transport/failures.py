"""What can go wrong with a request, each said in one line that names the server and, where there is one, the remedy."""

import contextlib
import email.utils
import http.client
import ssl
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import RemoteDisconnected
from typing import NamedTuple

from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse

from kproxy.api.decode import decode_status
from kproxy.api.transport.access import Access
from kproxy.api.transport.culprits import describe, describe_proxied, describe_tls, invalidity, token_expiry
from kproxy.api.transport.proxies import Proxy
from kproxy.api.wire import Status
from kproxy.wording import printable

_TOO_LARGE = "ResourceVersionTooLarge"
_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""How a server that did not like our certificate shows it, where its alert got lost."""


class Way(NamedTuple):
    """How a server was asked."""

    server: str
    access: Access

    @property
    def proxy(self) -> Proxy | None:
        """By which proxy."""
        return self.access.proxies.get(self.server)


class ApiError(Exception):
    """A request that came to nothing. Its text is one line."""


class UnreachableError(ApiError):
    """Nobody answered, or the answer broke off."""

    def __init__(self, text: str, *, untrusted: bool = False, silent: bool = False) -> None:
        super().__init__(text)
        self.untrusted = untrusted
        """Whether it was the server's certificate."""
        self.silent = silent
        """Whether the connection stood but nothing came."""


class RefusedError(ApiError):
    """The server answered, and said no."""

    def __init__(self, text: str, code: int, retry_after: float | None = None, status: Status | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after
        """Seconds to wait before asking again, if the server said so."""
        self.status = status

    @property
    def version_too_large(self) -> bool:
        """Whether the server does not know the resource version yet, and perhaps never will."""
        causes = self.status.details.causes if self.status and self.status.details else None
        return any(cause.reason == _TOO_LARGE for cause in causes or ())


def unreachable(way: Way, error: BaseException) -> UnreachableError:
    """Say what it means that ``error`` came up on the way to a server or back, and who is to blame."""
    links = list(_chain(error))
    silent = any(isinstance(link, ReadTimeoutError) for link in links)
    untrusted = any(isinstance(link, ssl.SSLCertVerificationError) for link in links)
    text = None if way.proxy is None else describe_proxied(way.proxy, links)
    if text is None:
        text = describe(links, way.access.remedy, lambda link: describe_tls(link, way.access, way.server))
        if way.proxy is not None:
            text += f" (by way of the proxy {way.proxy}, {way.proxy.origin})"
        elif way.server.startswith("http:") and any(isinstance(link, RemoteDisconnected) for link in links):
            text += " without an answer; if it speaks TLS, write https:// in its URL"
        problem = invalidity(way.access.tls.certificate)
        if problem and not untrusted and any(isinstance(link, _CLOSED) for link in links):
            text += f"; the client certificate of {way.access.whose} {problem}"
    return UnreachableError(f"API server {way.server}: {text}", untrusted=untrusted, silent=silent)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes, and the errors that urllib3 wraps in its own."""
    yield error
    wrapped = (arg for arg in error.args if isinstance(arg, BaseException)) if isinstance(error, HTTPError) else ()
    for inner in (*wrapped, error.__cause__ or error.__context__):
        if inner is not None:
            yield from _chain(inner)


def refusal(way: Way, response: BaseHTTPResponse) -> RefusedError:
    """Read an answer that is no success."""
    code = response.status
    try:
        body = response.read(1 << 20)
    except (HTTPError, OSError):
        body = b""
    finally:
        response.close()
    status = decode_status(body)
    message = printable(status.message) if status else ""
    text = _describe_refusal(way, code, message, body, response.headers)
    return RefusedError(f"API server {way.server}: {text}", code, _retry_after(response, status), status)


def _describe_refusal(way: Way, code: int, message: str, body: bytes, headers: Mapping[str, str]) -> str:
    whose = way.access.whose
    said = f"{code} {http.client.responses.get(code, '')}".rstrip()
    if code == HTTPStatus.UNAUTHORIZED:
        problem = invalidity(way.access.tls.certificate)
        if problem and not way.access.authorization:
            return f"{said}: the client certificate of {whose} {problem}"
        if expired := token_expiry(way.access.authorization):
            return f"{said}: the token of {whose} has expired on {expired}; renew it"
        return f"{said}: it does not accept the credentials of {whose}; renew them"
    if code == HTTPStatus.FORBIDDEN and message:
        return f"{said}: {message}; bind the user of {whose} to the ClusterRole system:node-proxier"
    if code == HTTPStatus.BAD_REQUEST and b"HTTP request to an HTTPS server" in body:
        return f"{said}: it speaks TLS; write https:// in its URL"
    if code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return f"{said}: the proxy {way.proxy} asks for a user and a password"
    if HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
        place = printable(headers.get("Location", "?"))
        return f"{said}: it sends us to {place}, as no API server does; {way.access.remedy}"
    if not message and code in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        return f"{said}: not the answer of an API server; {way.access.remedy}"
    return f"{said}: {message}" if message else said


def _retry_after(response: BaseHTTPResponse, status: Status | None) -> float | None:
    header = response.headers.get("Retry-After", "")
    number = header.partition(",")[0]  # two that each set one give "1, 1"
    if number.isascii() and number.isdigit():
        return float(number[:9])
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    details = status.details if status else None
    seconds = details.retry_after_seconds if details else None
    return float(seconds) if seconds and 0 < seconds < 10**9 else None
