r"""Spells text of strangers so that HAProxy can only read it as text.

HAProxy's language has words, quotes, escapes, variables, comments and, inside of arguments, log formats and sample
expressions. What has a meaning inside of double quotes is not in `_PLAIN`: every such octet is spelled ``\xHH``, which
the outermost reader turns back into the octet and none looks at again. (configuration manual, "Quoting and escaping".)
"""

import string

_PLAIN = frozenset(string.ascii_letters + string.digits + "/._~-,=:@+()[]{}<>^*?|!&;# ")
_LITERAL = frozenset(string.ascii_letters + string.digits)


def quoted(text: str) -> str:
    """Return ``text`` as one argument that is taken as it is."""
    return '"' + "".join(char if char in _PLAIN else _octets(char, r"\x{:02x}") for char in text) + '"'


def formatted(*parts: str) -> str:
    """Return one argument that is read as a log format: ``%[…]`` of our own, and text made by `literal`."""
    return '"' + "".join(parts) + '"'


def literal(text: str) -> str:
    """Return text for use in `formatted`, where a percent sign is written twice."""
    return quoted(text.replace("%", "%%"))[1:-1]


def in_pattern(text: str) -> str:
    """Return a regular expression, without any white space in it, that matches ``text`` and nothing else."""
    return "".join(char if char in _LITERAL else _octets(char, r"\x{:02x}") for char in text)


def in_query_pattern(text: str) -> str:
    """Return an expression that matches every way to percent-encode ``text`` in a query."""
    return "".join(map(_query_octet, text.encode()))


def socket_word(text: str) -> str:
    """Return ``text``, which holds no line break, as one word of a command for the runtime socket."""
    return "".join(f"\\{char}" if char in "\\; " else char for char in text)


def _octets(char: str, spelling: str) -> str:
    return "".join(spelling.format(octet) for octet in char.encode())


def _query_octet(octet: int) -> str:
    char = chr(octet)
    encoded = "%" + "".join(digit if digit.isdigit() else f"[{digit}{digit.lower()}]" for digit in f"{octet:02X}")
    if char == " ":
        return rf"(?:\x2b|{encoded})"
    plain = char if char in _LITERAL else rf"\x{octet:02x}"
    return f"(?:{plain}|{encoded})"
