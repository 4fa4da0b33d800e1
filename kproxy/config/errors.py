"""What a mistake in the configuration becomes: lines for a person, never a traceback."""

from collections.abc import Iterable


class ConfigError(Exception):
    """The configuration can't be used.

    ``problems`` has one line per mistake, each naming the place (file and line, or flag), the field and the remedy, so
    that all of them can be put right in one go. ``str()`` is these lines.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
