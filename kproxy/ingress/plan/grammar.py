"""What text of an object has to look like before it may become part of a plan.

Objects are written by strangers, and not every one went through the API server's validation. What passes here holds no
control character, and nothing that an engine could read in another way than it is meant. Each function returns the
value in the form that the plan wants, or raises `NotUsable` with what is wrong and what would be right.

Sources: RFC 1123 (hosts), RFC 3986 (paths), RFC 9110 (header names and values), GEP-2257 (durations), and the
validation of Ingress and of Gateway API's CRDs.
"""

import ipaddress
import re

from kproxy.ingress.plan.matching import ANY_HOST, HostKind, HostPattern
from kproxy.wording import quote

MOST_PATH = 1024
MOST_VALUE = 4096
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_PATH = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_TOKEN = re.compile(r"[-A-Za-z0-9!#$%&'*+.^_`|~]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}")
_DURATION_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_FRAMING = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "trailer", "transfer-encoding", "upgrade"}
)


class NotUsable(ValueError):  # noqa: N818 - it reads better where it is raised
    """A value that cannot be used; the message says why, and quotes it."""


def is_name(text: str) -> bool:
    """Tell whether ``text`` can be an object's name: a DNS subdomain, as Kubernetes means it, of labels of any length.

    Services and namespaces are stricter: their names are labels.
    """
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def host(text: str, wildcard: HostKind) -> HostPattern:
    """Return the pattern of a host name; ``wildcard`` says what ``*.`` in front of it means. Empty: any host."""
    if not text:
        return ANY_HOST
    name = precise_host(text.removeprefix("*."))
    return HostPattern(wildcard if text.startswith("*.") else HostKind.EXACT, name)


def precise_host(text: str) -> str:
    """Return a host name without a wildcard in lower case."""
    name = text.lower()
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        raise NotUsable(f"{quote(text)} is no host name such as shop.example.com or *.example.com")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    raise NotUsable(f"{quote(text)} is an IP address; a host name is wanted")


def path(text: str) -> str:
    """Return a path that requests can have."""
    if len(text) > MOST_PATH:
        raise NotUsable(f"{quote(text)} is longer than {MOST_PATH} characters")
    if not text.startswith("/"):
        raise NotUsable(f"{quote(text)} does not begin with a slash")
    if not _PATH.fullmatch(text):
        raise NotUsable(
            f"{quote(text)} is no path: letters, digits, /-._~!$&'()*+,;=:@ and percent-encoded octets only"
        )
    lower = text.lower()
    if "//" in text or "/./" in text or "/../" in text or "%2f" in lower or text.endswith(("/.", "/..")):
        raise NotUsable(f"{quote(text)} is not normal: empty and dotted elements and %2f do not match reliably")
    return text


def prefix(text: str) -> str:
    """Return a path for comparing element by element: without the trailing slash, which means nothing there."""
    return path(text).removesuffix("/")


def replacement(text: str) -> str:
    """Return a path that takes another's place; query and fragment are not for it to set."""
    return path(text if text.startswith("/") else f"/{text}")


def header_name(text: str) -> str:
    """Return the name of a header, or of a query parameter, for which the same is allowed."""
    if not _TOKEN.fullmatch(text):
        raise NotUsable(f"{quote(text)} is no header name")
    return text


def changeable_header(text: str) -> str:
    """Return the name of a header that may be changed: those that frame the message are the connection's own."""
    name = header_name(text)
    if name.lower() in _FRAMING:
        raise NotUsable(f"{quote(text)} belongs to the connection and cannot be changed")
    return name


def value(text: str) -> str:
    """Return the value of a header or query parameter."""
    if len(text) > MOST_VALUE:
        raise NotUsable(f"{quote(text)} is longer than {MOST_VALUE} characters")
    if not _VALUE.fullmatch(text):
        raise NotUsable(f"{quote(text)} holds characters other than printable ASCII")
    return text


def method(text: str) -> str:
    """Return a method."""
    if text not in METHODS:
        raise NotUsable(f"{quote(text)} is not one of {', '.join(sorted(METHODS))}")
    return text


def duration(text: str) -> int:
    """Return a duration in milliseconds."""
    if not _DURATION.fullmatch(text):
        raise NotUsable(f"{quote(text)} is no duration such as 10s, 1m30s or 500ms")
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _DURATION_PART.findall(text))
