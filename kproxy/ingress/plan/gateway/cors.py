"""Filter CORS: checks what it says, and puts its origins into one expression. Source: HTTPCORSFilter."""

import re
from collections.abc import Callable, Iterable

from kproxy.ingress.api.httproute import CorsFilter
from kproxy.ingress.plan import grammar
from kproxy.ingress.plan.action import ANYTHING, Cors
from kproxy.ingress.plan.grammar import NotUsable
from kproxy.state.findings import is_port
from kproxy.wording import quote

_ORIGIN = re.compile(r"(https?)://(\*|(?:\*\.)?[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_OWN_PORT = {"http": "80", "https": "443"}
_NEVER = "(?!)"
_LONGEST_AGE = 86_400 * 365


def read_cors(filter_: CorsFilter) -> Cors:
    """Return what a filter says. Raises `NotUsable`."""
    age = 5 if filter_.max_age is None else filter_.max_age
    if not 0 < age <= _LONGEST_AGE:
        raise NotUsable(f"maxAge {age} is not in 1-{_LONGEST_AGE} (seconds)")
    return Cors(
        origins=_origins(filter_.allow_origins or ()),
        methods=_list("allowMethods", filter_.allow_methods or (), grammar.method),
        headers=_list("allowHeaders", filter_.allow_headers or (), grammar.header_name),
        exposed=_list("exposeHeaders", filter_.expose_headers or (), grammar.header_name),
        credentials=bool(filter_.allow_credentials),
        max_age=age,
    )


def _origins(texts: Iterable[str]) -> str:
    """Return the expression that is found in the origins meant, as browsers write them: without the usual port."""
    found = []
    for text in texts:
        if text == ANYTHING:
            return "^."
        parts = _ORIGIN.fullmatch(text.lower())
        if parts is None or (parts[3] and not is_port(int(parts[3]))):
            raise NotUsable(f"{quote(text)} is no origin such as https://shop.example.com or https://*.example.com")
        scheme, host, port = parts.groups()
        ending = "" if port in (None, _OWN_PORT[scheme]) else f":{port}"
        found.append(f"{scheme}://{re.escape(host).replace(re.escape(ANYTHING), '[-a-z0-9.]+')}{ending}")
    return f"^(?:{'|'.join(found)})$" if found else _NEVER


def _list(field: str, texts: tuple[str, ...], check: Callable[[str], str]) -> tuple[str, ...]:
    if ANYTHING in texts:
        if len(texts) > 1:
            raise NotUsable(f"{field} has * beside others")
        return texts
    return tuple(map(check, texts))
