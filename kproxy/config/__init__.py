"""Everything about kproxy's settings: kube-proxy's configuration file and flags, read, merged, checked, written.

The one thing the rest of kproxy needs of it is `Config`, see `model`: also what texts come to, such as ranges of either
family, and what follows from what is not said, such as the node's name. A file goes through `load`: `decode` reads it
into the structs of `schema`, with the types in `values`; `flags` come on top, read by a `parser`; `validate` judges the
whole. `write` spells it again, `watch` notices that the file has changed, `errors` is what all complain with.
"""

from kproxy.config.errors import ConfigError
from kproxy.config.flags import add_flags, from_flags, load
from kproxy.config.load import parse_config, read_config_file
from kproxy.config.model import Config, Options
from kproxy.config.parser import ArgumentParser
from kproxy.config.schema import IPTablesVariant, Layout, LogFormat, ProxyMode
from kproxy.config.values import BindAddress, Duration
from kproxy.config.write import as_document, to_yaml

__all__ = [
    "ArgumentParser",
    "BindAddress",
    "Config",
    "ConfigError",
    "Duration",
    "IPTablesVariant",
    "Layout",
    "LogFormat",
    "Options",
    "ProxyMode",
    "add_flags",
    "as_document",
    "from_flags",
    "load",
    "parse_config",
    "read_config_file",
    "to_yaml",
]
