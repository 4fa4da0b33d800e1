"""From YAML text to the structs of `schema`, with a line number for every mistake.

PyYAML's node tree is walked along the types of the structs. That does three things which decoding into dicts first
could not: say on which line a mistake is, tell an unset field (null, or a zero kube-proxy takes for unset) from a set
one, and find fields that kube-proxy has no name for.
"""

import enum
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from kproxy.api.yamlreader import read_nodes
from kproxy.config.schema import Section
from kproxy.config.values import Duration, FlushFrequency, Quantity, nearest
from kproxy.wording import quote

S = TypeVar("S", bound=Section)


class Field(NamedTuple):
    """A field of a section: its name in Python and its type."""

    attribute: str
    type: Any


@cache
def fields_of(section: type[Section]) -> Mapping[str, Field]:
    """Return a section's fields by the names they have in the file."""
    hints = typing.get_type_hints(section)
    return {field.encode_name: Field(field.name, hints[field.name]) for field in msgspec.structs.fields(section)}


class Decoder:
    """Decodes the documents of one file, collecting what is wrong with them.

    ``origins`` tells where each field was set (``FILE:LINE``), by its dotted path, for later messages about it.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[str] = []
        self.unknown: list[str] = []
        self.origins: dict[str, str] = {}

    def document_kind(self, node: yaml.Node, known: Mapping[tuple[str, str], type[S]]) -> type[S]:
        """Tell what a document is, by its apiVersion and kind.

        Raises ValueError for anything but the ``known`` ones.
        """
        if not isinstance(node, yaml.MappingNode):
            raise ValueError(f"must be a {' or '.join(kind for _, kind in known)}, not {_describe(node)}")
        api_version, kind = _head(node)
        if kind == "ConfigMap":
            raise ValueError("a ConfigMap; --config takes the file in it, its key config.conf")
        for known_version, known_kind in known:
            if kind == known_kind and api_version != known_version:
                raise ValueError(f"apiVersion: must be {known_version}, not {quote(api_version)}")
        if (api_version, kind) not in known:
            kinds = [known_kind for _, known_kind in known]
            raise ValueError(f"kind: must be {' or '.join(kinds)}, not {quote(kind)}{nearest(kind, kinds)}")
        return known[api_version, kind]

    def section(self, node: yaml.Node, kind: type[S], path: str = "", skip: tuple[str, ...] = ()) -> S:
        """Decode a mapping; fields that can't be read are reported in ``errors`` and get their defaults."""
        if not isinstance(node, yaml.MappingNode):
            raise ValueError(f"must be a mapping of fields, not {_describe(node)}")
        known = fields_of(kind)
        values: dict[str, Any] = {}
        for name, value in self._entries(node, path):
            if name in skip:
                continue
            field_path = _join(path, name)
            if name not in known:
                self.unknown.append(f"{self.where(value)}: unknown field {field_path}{nearest(name, known)}")
                continue
            field = known[name]
            try:
                decoded = self._value(value, field.type, field_path)
            except ValueError as mistake:
                self.errors.append(f"{self.where(value)}: {field_path}: {mistake}")
                continue
            if decoded is None or (field.attribute in kind.zero_is_unset and not decoded):
                continue
            values[field.attribute] = decoded
            self.origins[field_path] = self.where(value)
        return kind(**values)

    def where(self, node: yaml.Node) -> str:
        """Return the place of a node as ``FILE:LINE``."""
        return f"{self.file}:{node.start_mark.line + 1}"

    def _entries(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, yaml.Node]]:
        seen: set[str] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name in seen:
                self.errors.append(f"{self.where(key)}: {_join(path, name)}: is there twice; remove one")
                continue
            seen.add(name)
            yield name, value

    def _value(self, node: yaml.Node, kind: Any, path: str) -> Any:
        """Decode any node to ``kind``; None for null, which leaves a field at its default."""
        if node.tag == "tag:yaml.org,2002:null":
            return None
        origin = typing.get_origin(kind)
        if origin is tuple:
            return self._list(node, typing.get_args(kind)[0], path)
        if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
            return self._mapping(node, typing.get_args(kind)[1], path)
        if isinstance(kind, type) and issubclass(kind, Section):
            return self.section(node, kind, path)
        return _convert(_scalar(node), kind)

    def _list(self, node: yaml.Node, kind: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise ValueError(f"must be a list, not {_describe(node)}; start each item with a dash")
        return tuple(self._item(item, kind, f"{path}[{index}]") for index, item in enumerate(node.value))

    def _mapping(self, node: yaml.Node, kind: Any, path: str) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise ValueError(f"must be a mapping of names to values, not {_describe(node)}")
        return {name: self._item(value, kind, _join(path, name)) for name, value in self._entries(node, path)}

    def _item(self, node: yaml.Node, kind: Any, path: str) -> Any:
        value = self._value(node, kind, path)
        if value is None:
            raise ValueError("has an item without a value; remove it")
        self.origins[path] = self.where(node)
        return value


def concerns(node: yaml.Node, known: Mapping[tuple[str, str], type[Section]]) -> bool:
    """Tell whether a document is, or is meant to be, one of the ``known`` ones; others are other programs'."""
    if not isinstance(node, yaml.MappingNode):
        return False
    api_version, kind = _head(node)
    groups = {version.partition("/")[0] for version, _ in known}
    return api_version.partition("/")[0] in groups or kind in {its_kind for _, its_kind in known}


def _head(node: yaml.MappingNode) -> tuple[str, str]:
    """Return a document's apiVersion and kind, empty where they are missing."""
    head = {
        key.value: str(value.value)
        for key, value in node.value
        if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
    }
    return head.get("apiVersion", ""), head.get("kind", "")


def _convert(value: object, kind: Any) -> object:
    """Convert a plain YAML value to the type of its field.

    Raises ValueError where it doesn't fit. Kubernetes decodes strictly: 1 is not "1", and "true" is not true.
    """
    if type(value) is int:
        if kind is FlushFrequency:
            return FlushFrequency(value / 1e9)
        if kind in (float, Quantity):
            return kind(value)
    if isinstance(value, str) and kind not in (bool, int, float):
        return _from_text(value, kind)
    if type(value) is kind:
        return value
    shown = f"the text {quote(value)}" if isinstance(value, str) else _show(value)
    raise ValueError(f"must be {_kind_name(kind)}, not {shown}{_remedy(kind)}")


def _from_text(text: str, kind: Any) -> object:
    if issubclass(kind, Duration):
        return kind.parse(text) if text else kind(0)
    return choose(text, kind) if issubclass(kind, enum.StrEnum) else kind(text)


def choose(text: str, kind: type[enum.StrEnum]) -> enum.StrEnum | None:
    """Read one of an enumeration's words; an empty text is None: the default."""
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        words = [member.value for member in kind]
        raise ValueError(f"{quote(text)} is none of {', '.join(words)}{nearest(text, words)}") from None


def _kind_name(kind: Any) -> str:
    if issubclass(kind, enum.StrEnum):
        return f"one of {', '.join(kind)}"
    if issubclass(kind, Duration):
        return "a duration"
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")


def _remedy(kind: Any) -> str:
    if issubclass(kind, Duration):
        return "; give it a unit, such as 30s"
    return "; put it in quotes" if issubclass(kind, str) else ""


def _scalar(node: yaml.Node) -> object:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"must be a single value, not {_describe(node)}")
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError):  # as !!bool of any word, !!timestamp of none
        raise ValueError(f"{quote(node.value)} can't be read") from None


def _describe(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "nothing" if node.tag == "tag:yaml.org,2002:null" else quote(str(node.value))


def _show(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else quote(str(value))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def compose(text: str) -> Iterator[yaml.Node]:
    """Yield the root node of each document that is not empty.

    Raises UnreadableError. JSON is YAML but for tabs, which it allows between tokens and never within them.
    """
    if text.lstrip().startswith(("{", "[")):
        text = text.replace("\t", " ")
    for node in read_nodes(text):
        if node.tag != "tag:yaml.org,2002:null":
            yield node
