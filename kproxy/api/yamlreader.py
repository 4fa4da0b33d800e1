"""YAML as Kubernetes means it, through PyYAML.

PyYAML's own loaders don't fit as they are. The one in C crashes the process on deep nesting: here libyaml parses, but
the composing is PyYAML's Python code, which Python's recursion limit protects. And YAML 1.1's odder scalars, which
Kubernetes' parser doesn't know either, would damage addresses and dates: ``1:2:3:4:5:6:7:8`` is a number to base 60
there, ``2026-01-01`` a date object.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

_SCALARS = {
    "bool": (r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    "int": (r"[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    "float": (r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    "merge": (r"<<", "<"),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
}


class _Loader(Composer, yaml.CSafeLoader):
    def __init__(self, data: bytes) -> None:
        yaml.CSafeLoader.__init__(self, data)
        Composer.__init__(self)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Refuse a key that is given twice: the first value would silently be lost."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
                seen.add(key.value)
        return node


_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}",
        re.compile(f"(?:{_pattern})\\Z"),
        ["" if char == "\0" else char for char in _first],
    )


def read_documents(data: bytes) -> Iterator[tuple[int, object]]:
    """Yield each document with the number of its first line.

    Raises yaml.YAMLError, RecursionError where it is nested too deeply, ValueError for numbers beyond reason.
    """
    loader = _Loader(data)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101 - check_node has just said so
            yield node.start_mark.line + 1, loader.construct_document(node)
    finally:
        loader.dispose()
