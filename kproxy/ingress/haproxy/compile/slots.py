"""Spells what a slot does with a request beside handing it to a server: filters, redirects, time limits."""

from collections.abc import Iterator

from kproxy.ingress.haproxy.compile.cors import cors_answers, cors_requests
from kproxy.ingress.haproxy.compile.frontends import SET_HOST
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.haproxy.text.model import Server, Slot
from kproxy.ingress.haproxy.text.quoting import formatted, literal, quoted
from kproxy.ingress.plan.action import (
    HeaderChanges,
    PathChange,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Retry,
    Rule,
    WeightedBackend,
)
from kproxy.ingress.plan.model import Backend, BackendProtocol, Endpoint

ATTEMPTS = 4
"""How often an endpoint is tried to be reached, each time another one where there are several."""
_OWN_PORT = {"http": 80, "https": 443}
_FOREVER = "24d"
"""The longest time that HAProxy can count."""


def redirects(rule: Rule) -> bool:
    """Tell whether a rule answers some requests by a redirect."""
    return rule.redirect is not None or any(choice.redirect is not None for choice in rule.backends)


def redirect_slot(rule: Rule, redirect: Redirect) -> Slot:
    """Return the slot of a rule that answers by itself."""
    lines = [*_redirect_lines(redirect), *_header_lines("http-after-response", rule.response_headers)]
    return Slot(rule=str(rule.key), lines=tuple(lines))


def backend_slot(rule: Rule, choice: WeightedBackend, backend: Backend, settings: EngineSettings) -> Slot:
    """Return the slot of one of a rule's backends."""
    if choice.redirect is not None:
        lines = [*_redirect_lines(choice.redirect)]
        for changes in (choice.response_headers, rule.response_headers):
            lines += _header_lines("http-after-response", changes)
        return Slot(rule=str(rule.key), backend=str(backend.key), lines=tuple(lines))
    lines = [*_timeout_lines(rule, settings)]
    if rule.retry is not None:
        lines += _retry_lines(rule.retry)
    if rule.cors is not None:
        lines += cors_requests(rule.cors)
    rewrite = choice.rewrite or rule.rewrite
    if rewrite is not None:
        if rewrite.path is not None:
            lines += _path_lines(rewrite.path)
        if rewrite.host is not None:
            lines.append(f"http-request set-header Host {formatted(literal(rewrite.host))}")
    lines += _header_lines("http-request", rule.request_headers)
    lines += _header_lines("http-request", choice.request_headers)
    if rule.cors is not None:
        lines += cors_answers(rule.cors)
    lines += _header_lines("http-response", choice.response_headers)
    lines += _header_lines("http-response", rule.response_headers)
    h2 = backend.protocol is BackendProtocol.H2C
    servers = tuple(_server(endpoint, h2=h2) for endpoint in backend.endpoints)
    return Slot(rule=str(rule.key), backend=str(backend.key), lines=tuple(lines), servers=servers)


def _server(endpoint: Endpoint, *, h2: bool) -> Server:
    name = f"{endpoint.ip.replace(':', '-')}:{endpoint.port}"
    address = f"[{endpoint.ip}]:{endpoint.port}" if ":" in endpoint.ip else f"{endpoint.ip}:{endpoint.port}"
    return Server(f"h2_{name}" if h2 else name, address, h2, endpoint.draining)


def _timeout_lines(rule: Rule, settings: EngineSettings) -> Iterator[str]:
    said = [limit for limit in (rule.timeouts.request, rule.timeouts.backend_request) if limit is not None]
    if not said:
        return
    limits = [limit for limit in said if limit]
    if not limits:
        yield f"timeout server {_FOREVER}"
        return
    yield f"timeout server {min(limits)}ms"
    attempts = ATTEMPTS if rule.retry is None else rule.retry.attempts + 1
    if min(limits) < attempts * settings.connect_timeout:  # that all attempts together take no longer
        yield f"timeout connect {max(1, min(limits) // attempts)}ms"


def _retry_lines(retry: Retry) -> Iterator[str]:
    yield f"retries {retry.attempts}"
    # HAProxy can say again only what it has whole at the first try: a body that comes a packet later than its head is
    # waited for, as far as the buffer reaches.
    yield "option http-buffer-request"
    yield " ".join(("retry-on conn-failure empty-response response-timeout", *map(str, retry.codes)))


def _header_lines(when: str, changes: HeaderChanges) -> Iterator[str]:
    for name, value in changes.set:
        yield f"{when} set-header {quoted(name)} {_value(value)}"
    for name, value in changes.add:
        yield f"{when} add-header {quoted(name)} {_value(value)}"
    for name in changes.remove:
        yield f"{when} del-header {quoted(name)}"


def _value(value: str) -> str:
    """Return a header's value as an argument. One of no characters at all would count as missing."""
    return formatted(literal(value) or "%[var(txn.nothing)]")


def _path_lines(change: PathChange) -> Iterator[str]:
    """Change the path by counting characters, so that no text of an object is read as an expression."""
    if isinstance(change, ReplaceFullPath):
        yield f"http-request set-path {formatted(literal(change.path))}"
        return
    conditions = _prefix_cases(change)
    yield "http-request set-var(txn.path) path"
    for path, condition in conditions:
        yield f"http-request set-path {path}{condition}"


def _prefix_cases(change: ReplacePrefix) -> list[tuple[str, str]]:
    """Return new paths with the conditions, on txn.path, under which they hold."""
    start, length = literal(change.replacement), len(change.prefix)
    longer = f"{{ var(txn.path),length gt {length} }}"
    rest = f"%[var(txn.path),bytes({length})]"
    return [(formatted(start, rest), f" if {longer}"), (formatted(start or "/"), f" unless {longer}")]


def _redirect_lines(redirect: Redirect) -> Iterator[str]:
    query = "%[var(txn.query)]"
    yield "http-request set-var(txn.path) path"
    if redirect.host is None:
        yield SET_HOST
    yield 'http-request set-var-fmt(txn.query) "?%[query]" if { query -m found }'
    if redirect.path is None:
        paths = [("%[var(txn.path)]", "")]
    elif isinstance(redirect.path, ReplaceFullPath):
        paths = [(literal(redirect.path.path), "")]
    else:
        paths = [(path[1:-1], condition) for path, condition in _prefix_cases(redirect.path)]
    host = literal(redirect.host) if redirect.host is not None else "%[var(txn.host)]"
    schemes = [(redirect.scheme, "")] if redirect.scheme else [("https", " { ssl_fc }"), ("http", " !{ ssl_fc }")]
    for scheme, when in schemes:
        port = "%[var(txn.port)]"
        if redirect.port is None:
            yield f"http-request set-var(txn.port) fe_name,concat(/{scheme}),map_str(maps/ports){when and f' if{when}'}"
        else:
            port = "" if redirect.port == _OWN_PORT[scheme] else f":{redirect.port}"
        for path, condition in paths:
            condition = condition.replace(" unless ", " if !")
            together = f"{condition or ' if'}{when}" if when else condition
            location = formatted(f"{scheme}://", host, port, path, query)
            yield f"http-request redirect code {redirect.code} location {location}{together}"
