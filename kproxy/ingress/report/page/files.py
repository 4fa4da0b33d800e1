"""What the browser loads: five files, from this house and from nowhere else."""

from kproxy.ingress.report.page.answers import Answers
from kproxy.report.http import Routes
from kproxy.report.page.files import files_of, headed


def page_routes(answers: Answers) -> Routes:
    """Return the pages that make the page."""
    return {**files_of(__package__), "/page.json": lambda request: headed(answers.answer(request))}
