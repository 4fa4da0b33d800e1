"""Tests side by side: one process collects them all, then forks others that take file after file and run its tests.

    python -m pytest --at-once 4

Not by pytest-xdist: each of its processes collects all tests for itself, which for thousands of short ones is a fifth
of the time. Here all is imported once, and no garbage collection looks at it again. How it went is for the parent
(``parent``) to say, which prints what pytest always prints. A child (``child``) that dies has failed the test that it
was at, and another goes on with the rest; a test of which nobody tells has failed, too.

Files are taken in the order of collection, which conftest.py makes the one of the longest first. All tests of a file
run in one process, as they share what is costly to set up.

Its limits: what is imported and collected must start no thread, as a fork takes none along. Fixtures for a session are
set up once in each child. `pytest.exit` in a test ends only its process. `--pdb` and `--setup-show`, which speak with
the terminal, are for one process, and have one.
"""

import pytest

from tests.kit.side_by_side.parent import Parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("side by side").addoption(
        "--at-once", type=int, default=1, metavar="N", help="run the tests of N files at once"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    option = session.config.option
    if option.at_once < 2 or option.collectonly or option.usepdb or option.setupshow or session.testsfailed:
        return None  # pytest's own loop, which also knows what to do about errors in collection
    Parent(session, option.at_once).run()
    return True
