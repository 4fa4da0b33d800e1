"""What the browser loads: three files, from here and from nowhere else."""

from kproxy.ingress.report.page.answers import Answers
from kproxy.report.http import Routes
from kproxy.report.page.files import file_page, headed
from kproxy.report.protocol import Page

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("app.js", "text/javascript; charset=utf-8"),
}


def page_routes(answers: Answers) -> Routes:
    """Return the pages that make the page."""
    pages: dict[str, Page] = {path: file_page(__package__, name, kind) for path, (name, kind) in _FILES.items()}
    pages["/page.json"] = lambda request: headed(answers.answer(request))
    return pages
