"""The effective configuration as a file, for ``--write-config-to`` and /configz.

The first document is a KubeProxyConfiguration that kube-proxy reads, too; what only kproxy knows follows as a second.
"""

import enum
from collections.abc import Mapping

import msgspec
import yaml

from kproxy.config.model import Config
from kproxy.config.schema import DOCUMENTS, Section
from kproxy.config.values import Duration


def to_yaml(config: Config) -> str:
    """Return both documents as YAML text."""
    documents = (as_document(config.proxy), as_document(config.kproxy))
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)


def as_document(section: Section) -> dict[str, object]:
    """Return a document as plain values with all its fields, headed by apiVersion and kind."""
    api_version, kind = next(key for key, struct in DOCUMENTS.items() if struct is type(section))
    return {"apiVersion": api_version, "kind": kind, **_plain_section(section)}


def _plain_section(section: Section) -> dict[str, object]:
    return {
        field.encode_name: _plain(getattr(section, field.name))
        for field in msgspec.structs.fields(section)
        if field.name not in section.newer_than_v1_36 or getattr(section, field.name)
    }


def _plain(value: object) -> object:
    """Convert to what YAML and JSON know: no subclasses of their types."""
    if isinstance(value, Section):
        return _plain_section(value)
    if isinstance(value, (Duration, enum.Enum)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
