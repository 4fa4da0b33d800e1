"""Making the best of an object that is not as its type demands.

msgspec decodes an object whole or not at all. That is right for speed and wrong for a proxy: one odd field in one
Service must not take that Service, let alone all others, out of the rules. So whatever msgspec refuses goes through
this walk over the same struct types, which keeps all that fits: a bad field gets its default, a bad item of a list is
left out, and each gets a `Flaw`. An object that msgspec accepts comes out equal here; a property test holds it to that.

Explicit nulls count as absent, as for Go's decoder.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from kproxy.wording import printable, shown


class Flaw(NamedTuple):
    """One part left out: where it was (``spec.ports[1].port``; empty for the whole object) and why."""

    path: str
    reason: str


class Unusable(Exception):  # noqa: N818 - it is no error of the program's
    """The value at hand cannot be used; whoever can do without it catches this."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.flaw = Flaw(path, reason)


def convert(raw: object, struct: type[msgspec.Struct], flaws: list[Flaw]) -> Any:
    """Return as much of ``raw`` (JSON, already parsed) as fits ``struct``, adding what doesn't to ``flaws``.

    Raises `Unusable` where nothing can be kept: not an object at all, or without a field that has no default.
    """
    return _value(raw, _type_info(struct), "", flaws)


@cache
def _type_info(struct: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(struct)


def _value(raw: object, wanted: inspect.Type, path: str, flaws: list[Flaw]) -> Any:
    if isinstance(wanted, inspect.UnionType):  # in the API structs "X or null", X being a number or a string at times
        if raw is None:
            return None
        options = [option for option in wanted.types if not isinstance(option, inspect.NoneType)]
        text = len(options) > 1 and isinstance(raw, str)
        wanted = next((option for option in options if text and isinstance(option, inspect.StrType)), options[0])
    if isinstance(wanted, inspect.StructType):
        return _struct(raw, wanted, path, flaws)
    if isinstance(wanted, inspect.VarTupleType):
        return _items(raw, wanted, path, flaws)
    if isinstance(wanted, inspect.DictType):
        return _entries(raw, wanted, path, flaws)
    return _scalar(raw, wanted, path)


def _struct(raw: object, wanted: inspect.StructType, path: str, flaws: list[Flaw]) -> Any:
    if not isinstance(raw, Mapping):
        raise Unusable(path, f"expected an object, not {shown(raw)}")
    fields: dict[str, Any] = {}
    for field in wanted.fields:
        value = raw.get(field.encode_name)
        where = _join(path, field.encode_name)
        if value is None:
            if field.required:
                raise Unusable(where, "missing")
            continue
        try:
            fields[field.name] = _value(value, field.type, where, flaws)
        except Unusable as unusable:
            if field.required:
                raise
            flaws.append(unusable.flaw)
    return wanted.cls(**fields)


def _items(raw: object, wanted: inspect.VarTupleType, path: str, flaws: list[Flaw]) -> tuple[Any, ...]:
    if not isinstance(raw, list | tuple):
        raise Unusable(path, f"expected a list, not {shown(raw)}")
    kept = []
    for index, item in enumerate(raw):
        try:
            kept.append(_value(item, wanted.item_type, f"{path}[{index}]", flaws))
        except Unusable as unusable:
            flaws.append(unusable.flaw)
    return tuple(kept)


def _entries(raw: object, wanted: inspect.DictType, path: str, flaws: list[Flaw]) -> dict[str, Any]:
    """Keep the entries of a map whose value fits; its keys are strings."""
    if not isinstance(raw, Mapping):
        raise Unusable(path, f"expected an object, not {shown(raw)}")
    kept: dict[str, Any] = {}
    for name, value in raw.items():
        where = f'{path}["{printable(str(name))}"]'
        try:
            kept[_scalar(name, inspect.StrType(), where)] = _value(value, wanted.value_type, where, flaws)
        except Unusable as unusable:
            flaws.append(unusable.flaw)
    return kept


def _scalar(raw: object, wanted: inspect.Type, path: str) -> Any:
    match wanted:
        case inspect.StrType() if isinstance(raw, str):
            if _is_unicode(raw):
                return raw
            raise Unusable(path, f"{shown(raw)} is not valid Unicode")
        case inspect.StrType():
            raise Unusable(path, f"expected a string, not {shown(raw)}")
        case inspect.BoolType() if isinstance(raw, bool):
            return raw
        case inspect.BoolType():
            raise Unusable(path, f"expected true or false, not {shown(raw)}")
        case inspect.IntType() if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
        case inspect.IntType():
            raise Unusable(path, f"expected a whole number, not {shown(raw)}")
    raise TypeError(f"{path}: the API structs hold no {wanted}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _join(path: str, name: str) -> str:
    """Extend a JSON path. A name with dots in it (a label's) goes into brackets, lest it look like several."""
    if "." in name:
        return f'{path}["{printable(name)}"]'
    return f"{path}.{name}" if path else name
