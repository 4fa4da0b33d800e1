"""What the browser loads: five files, from here and from nowhere else.

The page of ``kproxy ingress`` is made of the same: what both have in common is in base.css and base.js here.
"""

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from kproxy.backends.base import BackendError
from kproxy.report.http import Routes
from kproxy.report.protocol import Page, Request, Response

if TYPE_CHECKING:
    from kproxy.report.page.answers import Answers

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_BASE = {
    "/base.css": ("base.css", "text/css; charset=utf-8"),
    "/base.js": ("base.js", "text/javascript; charset=utf-8"),
}
_OWN = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("app.js", "text/javascript; charset=utf-8"),
}


def page_routes(answers: "Callable[[], Answers]") -> Routes:
    """Return the pages that make the page; ``answers`` is called when somebody looks at it."""

    def answer(request: Request) -> Response:
        try:
            return headed(answers().answer(request))
        except BackendError as error:  # nobody who could answer can be loaded
            return headed(Response(503, msgspec.json.encode({"error": str(error)}), "application/json"))

    return {**files_of(__package__), "/page.json": answer}


def files_of(package: str) -> Routes:
    """Return the files of a page: those in ``package``, and those that all pages have in common."""
    common = {path: file_page(__package__, name, kind) for path, (name, kind) in _BASE.items()}
    return common | {path: file_page(package, name, kind) for path, (name, kind) in _OWN.items()}


def file_page(package: str, name: str, kind: str) -> Page:
    """Return the page that a file of a package is, which a browser asks for only once."""
    text = resources.files(package).joinpath(name).read_bytes()
    tag = f'"{hashlib.sha256(text).hexdigest()[:20]}"'

    def page(request: Request) -> Response:
        if request.if_none_match == tag:
            return Response(304, b"", kind, {**HEADERS, "ETag": tag})
        return Response(200, text, kind, {**HEADERS, "ETag": tag})

    return page


def headed(response: Response) -> Response:
    """Return an answer with the headers that everything of the page has."""
    return response._replace(headers={**HEADERS, **response.headers})
