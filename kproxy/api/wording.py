"""Putting values that may come from anybody into messages: on one line, short, and unable to forge another line."""

SHOWN = 60
"""How many characters of a value a message shows."""


def printable(text: str, limit: int = 300) -> str:
    """Return ``text`` with everything but plain printable characters escaped, cut after ``limit`` characters."""
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)
    return shown if len(text) <= limit else shown + "…"


def shown(value: object) -> str:
    """Describe a value as JSON knows it: scalars themselves, of anything larger only what it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{printable(value, SHOWN)}"'
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
    return printable(str(value), SHOWN)
