"""Reads what is asked: a URL as people type it, a method, headers."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

import msgspec

from kproxy.ingress.plan.model import Protocol
from kproxy.ingress.plan.walk import Request
from kproxy.wording import quote

FORMS = "http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH"
_PORTS = {Protocol.HTTP: 80, Protocol.HTTPS: 443}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PATH = re.compile(r"[\x21-\x7e]*")


class QuestionError(ValueError):
    """What is asked makes no sense; the message says why."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One question, as it travels to a running program, too."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question, taken apart."""

    protocol: Protocol
    port: int
    request: Request
    raw_query: str


def read(question: Question) -> Asked:
    """Take a question apart. Raises QuestionError."""
    try:
        parts = urlsplit(question.url)
        port = parts.port
    except ValueError:
        raise QuestionError(f"{quote(question.url)} is no URL; write {FORMS}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise QuestionError(f"{quote(question.url)} is no URL of a host; write {FORMS}")
    if not _PATH.fullmatch(parts.path + parts.query):
        raise QuestionError(f"{quote(question.url)}: what is not plain ASCII is percent-encoded in a URL")
    if not _TOKEN.fullmatch(question.method):
        raise QuestionError(f"{quote(question.method)} is no method, as GET and POST are")
    headers = {name.lower(): value for name, value in question.headers}
    host = headers.get("host", parts.hostname)
    protocol = Protocol(parts.scheme)
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        query.setdefault(name, value)
    request = Request(
        host=host,
        path=parts.path or "/",
        method=question.method,
        headers={**headers, "host": host},
        query=query,
        server_name=parts.hostname if protocol is Protocol.HTTPS else None,
    )
    return Asked(protocol=protocol, port=port or _PORTS[protocol], request=request, raw_query=parts.query)


def read_headers(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read headers as ``Name: value``. Raises QuestionError."""
    found = []
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not _TOKEN.fullmatch(name.strip()):
            raise QuestionError(f"{quote(text)} is no header; write it as 'Name: value'")
        found.append((name.strip(), value.strip()))
    return tuple(found)
