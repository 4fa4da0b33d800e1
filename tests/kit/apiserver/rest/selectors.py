"""Label and field selectors, as far as the API server's grammar goes for strings.

kproxy asks the server to keep headless and foreign-proxy objects to itself, so the test server must select as exactly
as a real one does. Source: the Kubernetes documentation on labels (equality-based and set-based requirements) and on
field selectors. The numeric operators ``>`` and ``<`` are left out: no client here uses them.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from tests.kit.apiserver.kinds import Kind
from tests.kit.apiserver.rest.status import ApiError

_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
_EXISTS = re.compile(rf"(?P<not>!)?\s*(?P<key>{_KEY})")
_EQUALS = re.compile(rf"(?P<key>{_KEY})\s*(?P<op>==|=|!=)\s*(?P<value>[A-Za-z0-9._-]*)")
_IN = re.compile(rf"(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_COMMA = re.compile(r",(?![^(]*\))")  # a comma outside parentheses
_FIELD = re.compile(r"(?P<key>[A-Za-z0-9.\[\]]+)(?P<op>==|=|!=)(?P<value>[^=!,]*)")


class Requirement(NamedTuple):
    """One term. ``values`` is None where only the key's presence counts."""

    key: str
    negated: bool
    values: frozenset[str] | None

    def matches(self, have: Mapping[str, str]) -> bool:
        """Tell whether a set of labels (or fields) meets this term; an absent key meets every negated one."""
        value = have.get(self.key)
        found = value is not None and (self.values is None or value in self.values)
        return found is not self.negated


class Selector(NamedTuple):
    """All terms of one request; an empty one selects everything."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def matches(self, labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
        """Tell whether an object with these labels and selectable fields is selected."""
        return all(term.matches(labels) for term in self.labels) and all(term.matches(fields) for term in self.fields)


def parse_selector(kind: Kind, labels: str, fields: str) -> Selector:
    """Read the two query parameters.

    Raises:
        ApiError: 400, with the part that is not understood.
    """
    return Selector(
        tuple(_label_requirement(term) for term in _terms(labels)),
        tuple(_field_requirement(kind, term) for term in _terms(fields)),
    )


def _terms(text: str) -> list[str]:
    return [term.strip() for term in _COMMA.split(text)] if text.strip() else []


def _label_requirement(term: str) -> Requirement:
    if found := _EXISTS.fullmatch(term):
        return Requirement(found["key"], found["not"] is not None, None)
    if found := _EQUALS.fullmatch(term):
        return Requirement(found["key"], found["op"] == "!=", frozenset([found["value"]]))
    if found := _IN.fullmatch(term):
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], found["op"] == "notin", values)
    raise ApiError(400, f"unable to parse requirement: {term!r}")


def _field_requirement(kind: Kind, term: str) -> Requirement:
    found = _FIELD.fullmatch(term)
    if found is None:
        raise ApiError(400, f"invalid selector: {term!r}; can't understand it")
    if found["key"] not in kind.selectable:
        raise ApiError(400, f'field label not supported: "{found["key"]}"')
    return Requirement(found["key"], found["op"] == "!=", frozenset([found["value"]]))
