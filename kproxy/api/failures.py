"""What can go wrong with a request, each said in one line that names the server and, where there is one, the remedy."""

import email.utils
import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator
from http import HTTPStatus

from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse

from kproxy.api.decode import decode_status
from kproxy.api.wire import Status
from kproxy.wording import printable

_TOO_LARGE = "ResourceVersionTooLarge"
_REMEDY = "check the server's URL in --kubeconfig or --master"
_AUTHORITY = "check certificate-authority"
_UNTRUSTED = {
    9: "it is not valid yet; check this node's clock",
    10: "it has expired; renew it, or check this node's clock",
    18: f"self-signed and not known here; {_AUTHORITY}",
    19: f"self-signed authority that is not known here; {_AUTHORITY}",
    20: f"signed by an authority that is not known here; {_AUTHORITY}",
    21: f"signed by an authority that is not known here; {_AUTHORITY}",
    62: "host name mismatch: it is for other names; check the server's URL, or set tls-server-name",
    64: "IP address mismatch: it is for other addresses; check the server's URL, or set tls-server-name",
}
"""By OpenSSL's number (X509_V_ERR_… in x509_vfy.h), as its wording changes."""
_UNRESOLVED = {
    socket.EAI_AGAIN: "no name server answers",
    socket.EAI_NONAME: "the name is not known",
    socket.EAI_NODATA: "the name has no address",
}


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


def unreachable(server: str, error: BaseException) -> UnreachableError:
    """Say what it means that ``error`` came up on the way to ``server`` or back."""
    silent = any(isinstance(link, ReadTimeoutError) for link in _chain(error))
    untrusted = any(isinstance(link, ssl.SSLCertVerificationError) for link in _chain(error))
    return UnreachableError(f"API server {server}: {_describe(error)}", untrusted=untrusted, silent=silent)


def _describe(error: BaseException) -> str:
    for link in _chain(error):
        match link:
            case ReadTimeoutError():
                return "it fell silent"
            case ConnectTimeoutError() if not isinstance(link, NewConnectionError):
                return f"cannot be connected to in time; {_REMEDY}"
            case ssl.SSLError():
                return _describe_tls(link)
            case socket.gaierror():
                reason = _UNRESOLVED.get(link.errno or 0, str(link.strerror))
                return f"its name cannot be resolved: {reason}; {_REMEDY}"
            case ConnectionRefusedError():
                return f"connection refused; {_REMEDY}"
            case OSError(errno=int(number)):
                return os.strerror(number).lower()
            case ConnectionError():
                return "it closed the connection"
    return f"the connection broke off: {printable(str(error), 120)}"


def _describe_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _UNTRUSTED.get(error.verify_code, f"{printable(error.verify_message)}; {_AUTHORITY}")
        return f"its certificate is not trusted: {reason}"
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"it does not speak TLS; {_REMEDY}"
    return f"TLS failed: {printable(str(error.reason or error)).replace('_', ' ').lower()}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes, and the errors that urllib3 wraps in its own."""
    yield error
    wrapped = (arg for arg in error.args if isinstance(arg, BaseException)) if isinstance(error, HTTPError) else ()
    for inner in (*wrapped, error.__cause__):
        if inner is not None:
            yield from _chain(inner)


def refusal(server: str, whose: str, response: BaseHTTPResponse) -> RefusedError:
    """Read an answer that is no success; ``whose`` are the credentials it was asked with."""
    code = response.status
    try:
        status = decode_status(response.read(1 << 20))
    except (HTTPError, OSError):
        status = None
    finally:
        response.close()
    message = printable(status.message) if status else ""
    phrase = http.client.responses.get(code, "")
    if code == HTTPStatus.UNAUTHORIZED:
        text = f"401 {phrase}: it does not accept the credentials of {whose}; renew them"
    elif code == HTTPStatus.FORBIDDEN:
        text = f"403 {phrase}: {message}; bind the user of {whose} to the ClusterRole system:node-proxier"
    else:
        text = f"{code} {phrase}: {message}" if message else f"{code} {phrase}"
    return RefusedError(f"API server {server}: {text}", code, _retry_after(response, status), status)


def _retry_after(response: BaseHTTPResponse, status: Status | None) -> float | None:
    header = response.headers.get("Retry-After", "")
    if header.isascii() and header.isdigit():
        return float(header[:9])
    moment = email.utils.parsedate_to_datetime(header) if "," in header else None
    if moment is not None:
        return max(0.0, moment.timestamp() - time.time())
    details = status.details if status else None
    seconds = details.retry_after_seconds if details else None
    return float(seconds) if seconds and 0 < seconds < 10**9 else None
