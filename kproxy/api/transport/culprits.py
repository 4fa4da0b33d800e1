"""Who is to blame for a connection that failed, and what to do about it: the words for the errors of three libraries.

urllib3 wraps what it gets from sockets, OpenSSL and PySocks; `kproxy.api.transport.failures` unwraps it into a row of
links, from the outside in. Here each is turned into half a sentence about its subject, the server or the proxy.
"""

import base64
import errno
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError, ReadTimeoutError

from kproxy.api.transport.access import Access
from kproxy.api.transport.proxies import Proxy
from kproxy.wording import printable

_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = {62: "host name mismatch", 63: "mail address mismatch", 64: "IP address mismatch"}
_OTHER_AUTHORITY = {
    2: "signed by an authority that is not known here",
    18: "self-signed and not known here",
    19: "self-signed authority that is not known here",
    20: "signed by an authority that is not known here",
    21: "signed by an authority that is not known here",
}
"""By OpenSSL's numbers for what is wrong with a certificate (x509_vfy.h), as its wording changes."""
_UNRESOLVED = {
    socket.EAI_AGAIN: "no name server answers",
    socket.EAI_NONAME: "the name is not known",
    socket.EAI_NODATA: "the name has no address",
}
_OTHER_PROTOCOL = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
)
_ABOUT_CLIENT_CERTIFICATE = re.compile(
    r"ALERT_(BAD_CERTIFICATE|CERTIFICATE_(EXPIRED|REQUIRED|REVOKED|UNKNOWN)|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE)"
)
_TUNNEL = re.compile(r"Tunnel connection failed: (?P<code>\d{3})\s?(?P<phrase>.*)", re.DOTALL)
_UTC_TIME = 0x17
_TIME = rb"\x17\x0d\d{12}Z|\x18\x0f\d{14}Z"
_VALIDITY = re.compile(rb"\x30[\x1e-\x22](?P<begins>" + _TIME + rb")(?P<ends>" + _TIME + rb")")


def describe(links: Sequence[BaseException], remedy: str, describe_certificate: Callable[[ssl.SSLError], str]) -> str:
    """Say what became of a connection to something that ``remedy`` helps to find."""
    for link in links:
        match link:
            case ReadTimeoutError():
                return "it fell silent"
            case ConnectTimeoutError() if not isinstance(link, NewConnectionError):
                return f"cannot be connected to in time; {remedy}, and the firewalls on the way"
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                return "it closed the connection"
            case ssl.SSLError():
                return describe_certificate(link)
            case socket.gaierror():
                reason = _UNRESOLVED.get(link.errno or 0, str(link.strerror))
                return f"its name cannot be resolved: {reason}; {remedy}, and the node's DNS"
            case ConnectionRefusedError():
                return f"connection refused; {remedy}"
            case OSError(errno=int(number)):
                return _describe_errno(number, remedy)
            case ConnectionError():
                return "it closed the connection"
    return f"the connection broke off: {printable(str(links[0]), 120)}"


def _describe_errno(number: int, remedy: str) -> str:
    text = os.strerror(number).lower()
    return f"{text}; {remedy}" if number in (errno.EHOSTUNREACH, errno.ENETUNREACH) else text


def describe_tls(error: ssl.SSLError, access: Access, server: str) -> str:
    """Say what is wrong with TLS to a server."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _describe_certificate(error, access, server)
    reason = error.reason or ""
    if reason in _OTHER_PROTOCOL:
        return f"it does not speak TLS; {access.remedy}"
    if _ABOUT_CLIENT_CERTIFICATE.search(reason):
        problem = invalidity(access.tls.certificate) or "is not accepted; renew it"
        return f"the client certificate of {access.whose} {problem}"
    return f"TLS failed: {printable(reason or str(error)).replace('_', ' ').lower()}"


def _describe_certificate(error: ssl.SSLCertVerificationError, access: Access, server: str) -> str:
    code = error.verify_code
    clock = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if code == _NOT_YET_VALID:
        return f"its certificate is not valid yet; check this node's clock, which shows {clock}"
    if code == _EXPIRED:
        return f"its certificate has expired; renew it, unless it is this node's clock, which shows {clock}"
    if code in _OTHER_NAME:
        wanted = f"tls-server-name {access.tls.server_name}" if access.tls.server_name else server
        return (
            f"its certificate is for another name: {_OTHER_NAME[code]}; ask for a server by a name that is in it, "
            f"or set tls-server-name to one (asked for was {wanted})"
        )
    problem = _OTHER_AUTHORITY.get(code, printable(error.verify_message))
    text = f"its certificate is not trusted: {problem}; check certificate-authority"
    if code in _OTHER_AUTHORITY:
        known = "the system's" if access.tls.authority is None else f"that of {access.whose}"
        return f"{text}: the server's is another than {known}"
    return text


def describe_proxied(proxy: Proxy, links: Sequence[BaseException]) -> str | None:
    """Say what went wrong with a proxy; None where it did its part, or nothing tells."""
    place = f"check {proxy.origin}"
    tunnels = [match for link in links if isinstance(link, OSError) and (match := _TUNNEL.search(str(link)))]
    if tunnels:
        return _describe_tunnel(proxy, int(tunnels[0]["code"]), printable(tunnels[0]["phrase"]), place)
    for position, link in enumerate(links):
        if isinstance(link, ProxyError):
            told = describe(links[position + 1 :], place, lambda error: _describe_proxy_tls(error, place))
            return f"its proxy {proxy}: {told}"
    if proxy.scheme == "socks5":
        return _describe_socks(proxy, links, place)
    return None


def _describe_proxy_tls(error: ssl.SSLError, place: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the proxy's certificate is not trusted ({printable(error.verify_message)}); "
            "it is held to the same certificate-authority as the server's"
        )
    if error.reason in _OTHER_PROTOCOL:
        return f"it does not speak TLS; {place}: write http://"
    return f"TLS failed: {printable(error.reason or str(error)).replace('_', ' ').lower()}"


def _describe_tunnel(proxy: Proxy, code: int, phrase: str, place: str) -> str:
    said = f"its proxy {proxy}: {code} {phrase}".rstrip()
    if code == 407:
        what = "does not accept the user and password" if proxy.login else "asks for a user and a password"
        return f"{said}: it {what}; {place}"
    if code in (401, 403, 405):
        return f"{said}: it refuses to connect us; allow it there, or name the server in NO_PROXY"
    if code in (502, 503, 504):
        return f"{said}: it cannot reach the server; {place}, or name the server in NO_PROXY"
    return f"{said}; {place}"


def _describe_socks(proxy: Proxy, links: Sequence[BaseException], place: str) -> str | None:
    """See PySocks: its errors wrap one another, and the innermost tells most. Names are resolved by the proxy."""
    inner = [link for link in links if type(link).__module__ == "socks"]
    resolving = [link for link in links if isinstance(link, socket.gaierror)]
    if not inner:
        return f"its proxy {proxy}: {describe(resolving, place, str)}" if resolving else None
    error = inner[-1]
    name, cause = type(error).__name__, getattr(error, "socket_err", None)
    if name == "SOCKS5AuthError" or "authentication methods were rejected" in str(error):
        what = "does not accept the user and password" if proxy.login else "asks for a user and a password"
        return f"its proxy {proxy}: it {what}; {place}"
    if name == "SOCKS5Error":
        return f"its proxy {proxy} cannot reach the server ({printable(str(error), 120)}); {place}"
    if isinstance(cause, TimeoutError):
        return f"its proxy {proxy}: it fell silent; {place}"
    if name == "ProxyConnectionError" and isinstance(cause, OSError):
        return f"its proxy {proxy}: {describe([cause], place, str)}"
    return f"its proxy {proxy}: that is not the answer of a SOCKS5 proxy ({printable(str(error), 120)}); {place}"


def invalidity(certificate: bytes | None) -> str | None:
    """Say what is wrong with the time of a certificate (PEM) of our own; None where nothing is, or it can't be read."""
    try:
        match = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(_first_certificate(certificate or b"")))
    except ValueError:
        return None
    if match is None:
        return None
    begins, ends = _moment(match["begins"]), _moment(match["ends"])
    if ends < datetime.now(UTC):
        return f"has expired on {ends:%Y-%m-%d}; renew it"
    if begins > datetime.now(UTC):
        return f"is not valid before {begins:%Y-%m-%d %H:%M} UTC; check this node's clock"
    return None


def _moment(der: bytes) -> datetime:
    """Read a UTCTime or a GeneralizedTime, tag and length included (RFC 5280, 4.1.2.5)."""
    text = der[2:].decode()
    if der[0] == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def token_expiry(authorization: str | None) -> str | None:
    """Return when a token that says so itself (a JSON web token) has expired; None where it has not, or is none."""
    parts = (authorization or "").removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
        moment = datetime.fromtimestamp(claims.exp or 0, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return f"{moment:%Y-%m-%d %H:%M} UTC" if claims.exp and moment < datetime.now(UTC) else None


class _Claims(msgspec.Struct):
    exp: float | None = None


def _first_certificate(pem: bytes) -> str:
    text = pem.decode("ascii", "replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.find(begin)
    return text[start : text.find(end, start) + len(end)] if start >= 0 else ""
