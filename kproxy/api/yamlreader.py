"""YAML as Kubernetes means it, through PyYAML; what is wrong with it is said in words of our own.

PyYAML's own loaders don't fit as they are. The one in C crashes the process on deep nesting: here libyaml parses, but
the composing is PyYAML's Python code, and stops at a depth that no object of Kubernetes' reaches. And YAML 1.1's odder
scalars, which Kubernetes' parser doesn't know either, would damage addresses and dates: ``1:2:3:4:5:6:7:8`` is a number
to base 60 there, ``2026-01-01`` a date object.

How PyYAML and libyaml word their errors changes from release to release, and some values they fail on with errors of
Python's. All of it becomes `UnreadableError`; their wording is no more than a detail of it, in parentheses.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Never

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kproxy.wording import printable, quote

NESTED_TOO_DEEPLY = "nested too deeply"
MAX_NESTING = 100
"""How many lists and mappings may lie within each other. The schemas of custom resources come to about 40."""

_PREFIX = "tag:yaml.org,2002:"
_STR, _SEQ, _MAP = (f"{_PREFIX}{kind}" for kind in ("str", "seq", "map"))
_SCALARS = {
    "bool": (r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    "int": (r"[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    "float": (r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    "merge": (r"<<", "<"),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
}


class UnreadableError(ValueError):
    """Text that is no YAML. ``reason`` is one line; ``line`` counts from 1, and is None where it isn't known."""

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def read_documents(data: bytes) -> Iterator[tuple[int, object]]:
    """Yield each document with the number of its first line. Raises `UnreadableError`."""
    with _in_our_words(data):
        loader = _Loader(data)
        try:
            while loader.check_node():
                node = loader.get_node()
                assert node is not None  # noqa: S101 - check_node has just said so
                yield _line(node), loader.construct_document(node) if loader.anchored else _built(loader, node)
        finally:
            loader.dispose()


def read_nodes(text: str) -> Iterator[Node]:
    """Yield the root node of each document, of plain YAML 1.1. Raises `UnreadableError`."""
    data = text.encode(errors="surrogatepass")  # libyaml refuses half a character
    with _in_our_words(data):
        yield from yaml.compose_all(data, Loader=_NodeLoader)


@contextmanager
def _in_our_words(data: bytes) -> Iterator[None]:
    """Make whatever reading ``data`` fails with an `UnreadableError`."""
    try:
        yield
    except RecursionError as error:
        raise UnreadableError(None, NESTED_TOO_DEEPLY) from error
    except yaml.MarkedYAMLError as error:
        raise _explained(data, error) from error
    except yaml.YAMLError as error:  # a ReaderError, which counts bytes
        position = getattr(error, "position", None)
        line = None if position is None else data.count(b"\n", 0, position) + 1
        raise UnreadableError(
            line, f"not valid YAML: not plain text{_detail(getattr(error, 'reason', error))}"
        ) from error


def _explained(data: bytes, error: yaml.MarkedYAMLError) -> UnreadableError:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return UnreadableError(None, f"not valid YAML{_detail(error.problem)}")
    before = data.split(b"\n", mark.line + 1)[: mark.line + 1]
    if _open_brackets(before) > MAX_NESTING:  # libyaml has a limit, too, and may look that far ahead
        return UnreadableError(mark.line + 1, NESTED_TOO_DEEPLY)
    tab = "; YAML is indented with spaces, not with tabs" if b"\t" in before[-1] else ""
    return UnreadableError(mark.line + 1, f"not valid YAML, in column {mark.column + 1}{_detail(error.problem)}{tab}")


def _open_brackets(lines: list[bytes]) -> int:
    return sum(line.count(b"[") + line.count(b"{") - line.count(b"]") - line.count(b"}") for line in lines)


def _detail(text: object) -> str:
    """Quote what the library says; its first line, as others draw the text at fault."""
    lines = str(text or "").splitlines()
    return f" ({printable(lines[0])})" if lines else ""


def _line(what: Any) -> int:
    """Where a node or an event begins."""
    line: int = what.start_mark.line + 1
    return line


# Composing.


class _Composer(Composer):
    """Refuses what libyaml lets pass and Kubernetes does not."""

    _depth = 0
    peek_event: Callable[[], yaml.Event]  # the parser's, whichever it is

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Refuse aliases of nothing, and what is nested too deeply."""
        event = self.peek_event()
        line = _line(event)
        if isinstance(event, yaml.AliasEvent) and event.anchor not in self.anchors:
            raise UnreadableError(line, f"not valid YAML: *{printable(str(event.anchor))} stands for nothing")
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise UnreadableError(line, NESTED_TOO_DEEPLY)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _NodeLoader(_Composer, yaml.CSafeLoader):
    """For whoever walks the nodes himself."""

    def __init__(self, data: bytes) -> None:
        yaml.CSafeLoader.__init__(self, data)
        Composer.__init__(self)


class _Loader(_NodeLoader):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.anchored = False
        """Whether a node may be met twice."""

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Make most scalars short and quick: nine of ten nodes are such."""
        event = self.peek_event()
        if type(event) is yaml.ScalarEvent and event.anchor is None and self._depth < MAX_NESTING:
            self.get_event()
            tag = event.tag
            if tag is None or tag == "!":
                tag = _plain_tag(event.value) if event.implicit[0] else _STR
            start: Any = event.start_mark  # libyaml's marks, which the types of PyYAML's nodes do not know of
            end: Any = event.end_mark
            return ScalarNode(tag, event.value, start, end, style=event.style)
        self.anchored = self.anchored or getattr(event, "anchor", None) is not None
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Refuse a key that is given twice: the first value would silently be lost."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise UnreadableError(_line(key), "not valid YAML: a key must be a single value")
            if key.tag != f"{_PREFIX}merge":
                if key.value in seen:
                    raise UnreadableError(_line(key), f"not valid YAML: the key {quote(key.value)} is given twice")
                seen.add(key.value)
        return node


# Constructing.


def _plain_tag(value: str) -> str:
    """Return the tag of a scalar without quotes, as PyYAML's resolver does."""
    for tag, pattern in _Loader.yaml_implicit_resolvers.get(value[:1], ()):
        if pattern.match(value):
            return str(tag)
    return _STR


def _built(loader: "_Loader", node: Node) -> object:
    """Return what `SafeConstructor` makes of a node, in a third of the time; no node may be met twice."""
    if node.tag == _STR and type(node) is ScalarNode:
        return node.value
    if node.tag == _SEQ and type(node) is SequenceNode:
        return [_built(loader, item) for item in node.value]
    if node.tag == _MAP and type(node) is MappingNode and all(key.tag == _STR for key, _ in node.value):
        return {key.value: _built(loader, value) for key, value in node.value}
    return loader.construct_object(node, deep=True)


def _scalar(construct: Callable[[SafeConstructor, Any], object], what: str) -> Callable[[_Loader, Node], object]:
    def constructor(loader: _Loader, node: Node) -> object:
        try:
            return construct(loader, node)
        except (ValueError, KeyError) as error:  # as !!bool of any word, or more digits than Python takes
            raise UnreadableError(_line(node), f"not valid YAML: {quote(str(node.value))} is not {what}") from error

    return constructor


def _unknown(_: _Loader, node: Node) -> Never:
    raise UnreadableError(_line(node), f"not valid YAML: the tag {quote(node.tag)} is not known")


_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        f"{_PREFIX}{_name}",
        re.compile(f"(?:{_pattern})\\Z"),
        ["" if char == "\0" else char for char in _first],
    )

_Loader.yaml_constructors = {
    f"{_PREFIX}null": SafeConstructor.construct_yaml_null,
    f"{_PREFIX}bool": _scalar(SafeConstructor.construct_yaml_bool, "true or false"),
    f"{_PREFIX}int": _scalar(SafeConstructor.construct_yaml_int, "a whole number, or too long for one"),
    f"{_PREFIX}float": _scalar(SafeConstructor.construct_yaml_float, "a number"),
    f"{_PREFIX}str": SafeConstructor.construct_yaml_str,
    f"{_PREFIX}timestamp": SafeConstructor.construct_yaml_str,
    f"{_PREFIX}binary": SafeConstructor.construct_yaml_binary,
    f"{_PREFIX}seq": SafeConstructor.construct_yaml_seq,
    f"{_PREFIX}map": SafeConstructor.construct_yaml_map,
    None: _unknown,
}
