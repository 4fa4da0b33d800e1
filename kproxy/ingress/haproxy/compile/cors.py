"""Spells CORS: preflights that HAProxy answers, and the headers of all other answers."""

from collections.abc import Iterator, Sequence

from kproxy.ingress.haproxy.text.quoting import formatted, literal, quoted
from kproxy.ingress.plan.action import ANYTHING, Cors

_ALLOWED = "{ var(txn.origin) -m found }"
_PREFLIGHT = "{ method OPTIONS } { req.hdr(access-control-request-method) -m found } { req.hdr(origin) -m found }"
_ASKED_HEADERS = "{ req.hdr(access-control-request-headers) -m found }"


def cors_requests(cors: Cors) -> Iterator[str]:
    """Yield what is done with requests: the origin is noted if it is allowed, and preflights are answered."""
    yield f"http-request set-var(txn.origin) req.fhdr(origin,1) if {{ req.fhdr(origin,1) -m reg -i -- {_regex(cors)} }}"
    general = [*_general(cors), ("Access-Control-Max-Age", str(cors.max_age))]
    if cors.methods:
        general.append(("Access-Control-Allow-Methods", _asked(cors.methods, "access-control-request-method")))
    headers = ("Access-Control-Allow-Headers", _asked(cors.headers, "access-control-request-headers"))
    if cors.headers == (ANYTHING,):
        yield _return([*general, headers], f"{_PREFLIGHT} {_ALLOWED} {_ASKED_HEADERS}")
    yield _return([*general, headers] if cors.headers not in ((), (ANYTHING,)) else general, f"{_PREFLIGHT} {_ALLOWED}")
    yield _return([], _PREFLIGHT)


def cors_answers(cors: Cors) -> Iterator[str]:
    """Yield what is done with answers of backends."""
    yield "http-response del-header access-control- -m beg"
    yield "http-response add-header Vary Origin"
    for name, value in _general(cors):
        yield f"http-response set-header {name} {formatted(value)} if {_ALLOWED}"


def _general(cors: Cors) -> list[tuple[str, str]]:
    """Return the headers of every answer to an origin that is allowed."""
    found = [("Access-Control-Allow-Origin", "%[var(txn.origin)]")]
    if cors.credentials:
        found.append(("Access-Control-Allow-Credentials", "true"))
    if cors.exposed and not (cors.credentials and cors.exposed == (ANYTHING,)):  # which browsers would not understand
        found.append(("Access-Control-Expose-Headers", literal(", ".join(cors.exposed))))
    return found


def _asked(names: Sequence[str], header: str) -> str:
    return f"%[req.fhdr({header})]" if tuple(names) == (ANYTHING,) else literal(", ".join(names))


def _return(headers: Sequence[tuple[str, str]], condition: str) -> str:
    said = "".join(f" hdr {name} {formatted(value)}" for name, value in (*headers, ("Vary", "Origin")))
    return f"http-request return status 204{said} if {condition}"


def _regex(cors: Cors) -> str:
    return quoted(cors.origins)
