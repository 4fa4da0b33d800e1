"""Putting values that may come from anybody into messages: on one line, short, and unable to forge another line.

Objects, files, flags and answers of servers are all quoted by what stands here, so that messages look alike.
"""

SHOWN = 80
"""How many characters of a value a message shows."""


def printable(text: str, limit: int = 300) -> str:
    """Return ``text`` with everything but plain printable characters escaped, cut after ``limit`` characters."""
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)
    return shown if len(text) <= limit else shown + "…"


def quote(text: str) -> str:
    """Return ``text`` in quotes, printable and cut after `SHOWN` characters."""
    return f"'{printable(text, SHOWN)}'"


def shown(value: object) -> str:
    """Describe a value as JSON knows it: scalars themselves, text in quotes, of anything larger only what it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quote(value)
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
    return printable(str(value), SHOWN)
