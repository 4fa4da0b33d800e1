"""What is logged during a test, for the tests that ask: in place of pytest's own fixture, caplog.

pytest's plugin hangs two handlers on every logger there is, before and after each part of each test, asked or not. That
is a third of what a test costs that does little, of which there are thousands; so pyproject.toml leaves the plugin out.
What a failing test has logged is in its captured stderr, by logging's last resort.
"""

import logging
from collections.abc import Iterator

import pytest


class Logged(logging.Handler):
    """Keeps all records, from the level on that loggers have."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._levels: list[tuple[logging.Logger, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    @property
    def text(self) -> str:
        """A line for each record, and its traceback."""
        return "".join(f"{self.format(record)}\n" for record in self.records)

    def hear_from(self, level: int, logger: str | None = None) -> None:
        """Have a logger, or all of them, tell what is of this level, until the test is over."""
        changed = logging.getLogger(logger)
        self._levels.append((changed, changed.level))
        changed.setLevel(level)

    def restore(self) -> None:
        for logger, level in reversed(self._levels):
            logger.setLevel(level)


@pytest.fixture
def logged() -> Iterator[Logged]:
    handler = Logged()
    root = logging.getLogger()
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    handler.restore()
