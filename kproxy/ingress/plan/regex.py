r"""Regular expressions of objects: the dialect they may be written in, and what they become.

Gateway API leaves the dialect to the implementation. Here it is what RE2, PCRE2 and Python's ``re`` read alike:
literals, ``.``, classes, groups, alternatives, the quantifiers ``* + ? {n} {n,} {n,m}`` and their lazy forms,
``^ $ \b \B``, the classes ``\d \D \w \W \s \S``, and ``(?i)`` in front. What is left out either means something else to
another engine or, like back references and lookarounds, lets an expression take a time beyond all measure. The plainest
way to such a time, the repetition of what itself repeats up to its end, is refused, too; the engine's own limit on
backtracking stands behind that.

An expression has to match the whole value, as with Envoy, which most users of Gateway API know: it is given anchors.
"""

import re
from typing import NamedTuple

from kproxy.ingress.plan.grammar import MOST_PATH, NotUsable
from kproxy.wording import quote

_MOST_REPEATS = 1000
_MOST_DEPTH = 20
_IGNORE_CASE = "(?i)"
_CLASS_ESCAPES = frozenset("dDwWsS")
_ANCHOR_ESCAPES = frozenset("bB")
_PUNCTUATION = frozenset(r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~""")
_REPEAT = re.compile(r"\{([0-9]{1,4})(?:,([0-9]{0,4}))?\}")


class _Piece(NamedTuple):
    """What has been read: where it ends, and whether its last element, or a wild one in it, repeats without bound."""

    end: int
    greedy_end: bool


def whole(text: str) -> str:
    """Return an expression that is found in exactly those values that ``text`` matches as a whole.

    Raises `NotUsable` where it is not in the dialect.
    """
    if len(text) > MOST_PATH:
        raise NotUsable(f"{quote(text)} is longer than {MOST_PATH} characters")
    if not all(" " <= char <= "~" for char in text):
        raise NotUsable(f"{quote(text)} holds characters other than printable ASCII")
    body = text.removeprefix(_IGNORE_CASE)
    flags = _IGNORE_CASE if body != text else ""
    reader = _Reader(text, body)
    if reader.alternatives(0, 0).end != len(body):
        raise NotUsable(f"{quote(text)} closes a group that was not opened")
    try:
        re.compile(body)
    except (re.error, OverflowError, RecursionError) as error:
        raise NotUsable(f"{quote(text)} is no regular expression: {error}") from error
    return f"{flags}^(?:{body})$"


class _Element(NamedTuple):
    """An atom with its quantifier: whether it repeats up to its end, matches anything without bound, can be empty."""

    end: int
    repeats: bool
    wild: bool
    optional: bool


class _Reader:
    """Walks through an expression once, from left to right."""

    def __init__(self, text: str, body: str) -> None:
        self._text = text
        self._body = body

    def alternatives(self, at: int, depth: int) -> _Piece:
        """Read up to the parenthesis that closes the group, or to the end."""
        if depth > _MOST_DEPTH:
            raise self._refused(f"is nested more than {_MOST_DEPTH} deep")
        wild = last = False
        while at < len(self._body) and self._body[at] != ")":
            if self._body[at] == "|":
                wild |= last
                last = False
                at += 1
                continue
            element = self._element(at, depth)
            at = element.end
            last = element.repeats or (last and element.optional)
            wild |= element.wild
        return _Piece(at, wild or last)

    def _element(self, at: int, depth: int) -> _Element:
        """Read one atom and its quantifier."""
        anything = self._body[at] == "."
        inner = self._atom(at, depth)
        end, least, unbounded = self._quantifier(inner.end)
        if unbounded and inner.greedy_end:
            raise self._refused("repeats a repetition, which could take forever; bound one of them, as in {1,20}")
        return _Element(end, unbounded or inner.greedy_end, unbounded and anything, least == 0)

    def _atom(self, at: int, depth: int) -> _Piece:
        char = self._body[at]
        if char == "(":
            return self._group(at, depth)
        if char == "[":
            return _Piece(self._class(at + 1), False)
        if char == "\\":
            return _Piece(self._escape(at, _CLASS_ESCAPES | _ANCHOR_ESCAPES), False)
        if char in "*+?{":
            raise self._refused(f"has nothing to repeat before {char}")
        return _Piece(at + 1, False)

    def _group(self, at: int, depth: int) -> _Piece:
        start = at + 1
        if self._body.startswith("?", start):
            if not self._body.startswith("?:", start):
                raise self._refused("uses a kind of group other than (…) and (?:…)")
            start += 2
        inner = self.alternatives(start, depth + 1)
        if inner.end >= len(self._body):
            raise self._refused("opens a group and does not close it")
        return _Piece(inner.end + 1, inner.greedy_end)

    def _class(self, at: int) -> int:
        if self._body.startswith("^", at):
            at += 1
        if self._body.startswith("]", at):
            raise self._refused("has ] for the first of a class; write \\]")
        while at < len(self._body):
            char = self._body[at]
            if char == "]":
                return at + 1
            if char == "[":
                raise self._refused("has [ inside a class; write \\[")
            if self._body[at : at + 2] in ("--", "&&", "||", "~~"):
                raise self._refused(f"has {self._body[at : at + 2]} inside a class, which engines read differently")
            at = self._escape(at, _CLASS_ESCAPES) if char == "\\" else at + 1
        raise self._refused("opens a class and does not close it")

    def _escape(self, at: int, allowed: frozenset[str]) -> int:
        escaped = self._body[at + 1 : at + 2]
        if not escaped or (escaped not in allowed and escaped not in _PUNCTUATION):
            raise self._refused(f"has \\{escaped}, which not all engines know")
        return at + 2

    def _quantifier(self, at: int) -> tuple[int, int, bool]:
        """Read a quantifier, if there is one; say where it ends, its lower bound, and whether it has no upper one."""
        char = self._body[at : at + 1]
        if not char or char not in "*+?{":
            return at, 1, False
        least, unbounded = int(char == "+"), char in "*+"
        end = at + 1
        if char == "{":
            found = _REPEAT.match(self._body, at)
            if found is None or max(int(number or 0) for number in found.groups()) > _MOST_REPEATS:
                raise self._refused(f"has {{ without a count of at most {_MOST_REPEATS}; for the character, write \\{{")
            least, unbounded = int(found.group(1)), found.group(2) == ""
            end = found.end()
        if self._body.startswith("?", end):
            end += 1
        if self._body[end : end + 1] in tuple("*+?{"):
            raise self._refused("has one quantifier after another")
        return end, least, unbounded

    def _refused(self, why: str) -> NotUsable:
        return NotUsable(f"{quote(self._text)} {why}")
