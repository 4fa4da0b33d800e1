r"""Spells conditions that the path does not decide: method, headers, query, and regular expressions.

All the matches of a group are patterns of one map, tried in order against a text that the frontend makes of a request:

    GROUP \n METHOD \n EXPRESSIONS \n HEADERS \r\n QUERY

where HEADERS are lines ``name: value\r\n`` with names in lower case, and EXPRESSIONS names the regular expressions of
objects that the request has matched. These are written into the frontend one by one (`Expression`), each against the
one value it is meant for, because their author may have written anything: inside of a longer pattern they could match
across its borders. A request has no line breaks but those that end its lines, so that nothing in it can pose as a part.
"""

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from kproxy.ingress.haproxy.text.quoting import in_pattern, in_query_pattern, quoted
from kproxy.ingress.plan.matching import Match, PathKind, ValueKind, ValueMatch

KEY = r'"%[var(txn.to)]\n%[method]\n%[var(txn.expressions)]\n%[req.hdrs]%[query]"'
"""The text, as an argument of set-var-fmt."""
_LIMIT = "(*LIMIT_MATCH=100000)"
"""Of PCRE2's steps: an expression that needs more does not match. Microseconds each, so this is some milliseconds."""

_MOST_WORDS = 40
"""Groups in one rule: HAProxy takes 64 words in a line, the others included."""


class Expression(msgspec.Struct, frozen=True, order=True):
    """A regular expression of an object's, and the sample it is held against."""

    sample: str
    regex: str
    only_if: str = ""
    """A condition without which the sample means nothing."""

    @property
    def name(self) -> str:
        """A name that tells them apart."""
        return digest(self.sample, self.regex)[:8]

    def lines(self, groups: Sequence[str]) -> Iterator[str]:
        """Yield the frontend's rules that note the name where it matches, for requests of some groups only."""
        for start in range(0, len(groups), _MOST_WORDS):
            yield (
                f'http-request set-var-fmt(txn.expressions) "%[var(txn.expressions)]:{self.name}:"'
                f" if {{ var(txn.to) -m str {' '.join(groups[start : start + _MOST_WORDS])} }}"
                f"{self.only_if} {{ {self.sample} -m reg -- {quoted(_LIMIT + self.regex)} }}"
            )


def digest(*parts: str) -> str:
    """Return 12 hexadecimal digits that stand for some text."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def expressions(match: Match) -> Iterator[Expression]:
    """Yield the regular expressions of a match."""
    if match.path.kind is PathKind.REGEX:
        yield Expression("path", match.path.value)
    for header in match.headers:
        if header.kind is ValueKind.REGEX:
            yield Expression(quoted(f"req.fhdr({_argument(header.name)},1)"), header.value)
    for parameter in match.query:
        if parameter.kind is ValueKind.REGEX:
            yield _of_parameter(parameter)


def _of_parameter(parameter: ValueMatch) -> Expression:
    """Return the expression that the first parameter of a name has to match, however the name is percent-encoded.

    HAProxy's own url_param knows a name by one spelling only.
    """
    whole = rf"^{_before(in_query_pattern(parameter.name))}(?:\x3d([^&]*))?(?:&.*)?$"
    value = rf"query,regsub('{whole}','\1'),url_dec(1)"
    return Expression(quoted(value), parameter.value, f" {{ query -m reg -- {quoted(whole)} }}")


def pattern(group: str, match: Match) -> str:
    """Return the pattern of a match, without the path unless that is a regular expression."""
    noted = "".join(rf"(?=[^\n]*:{expression.name}:)" for expression in expressions(match))
    method = in_pattern(match.method) if match.method else r"[^\n]*"
    headers = "".join(map(_header, (header for header in match.headers if header.kind is ValueKind.EXACT)))
    query = "".join(map(_parameter, (one for one in match.query if one.kind is ValueKind.EXACT)))
    if query:
        query = rf"(?>(?:[^\r\n]+\r\n)*)\r\n{query}"
    return rf"^{group}\n{method}\n{noted}[^\n]*\n{headers}{query}"


def anything(group: str) -> str:
    """Return a pattern that every request of a group matches."""
    return rf"^{group}\n"


def _header(header: ValueMatch) -> str:
    name = rf"{in_pattern(header.name)}\x3a"
    return rf"(?=(?>(?:(?!{name})[^\r\n]+\r\n)*){name}\x20*{in_pattern(header.value.strip())}\r\n)"


def _parameter(parameter: ValueMatch) -> str:
    name = in_query_pattern(parameter.name)
    value = rf"\x3d{in_query_pattern(parameter.value)}" if parameter.value else r"\x3d?"
    return rf"(?={_before(name)}{value}(?:&|\z))"


def _before(name: str) -> str:
    """Return what matches a query up to the end of a name, where that comes first."""
    return rf"(?>(?:(?!{name}(?:[\x3d&]|\z))[^&]*&)*){name}"


def _argument(text: str) -> str:
    """Return an argument of a sample expression: those characters that it gives a meaning to get a backslash."""
    return "".join(f"\\{char}" if char in "\\'\" ,()" else char for char in text)
