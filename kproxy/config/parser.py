"""How flags look and behave, whichever they are: as those of Kubernetes' programs, each complaint in one line.

``--flag=value`` and ``--flag value``, a boolean flag alone means true, underscores may stand for dashes, lists add up
when the flag is repeated. The type of the field that a flag sets says how its value is read.
"""

import argparse
import enum
import re
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from kproxy.config.decode import choose
from kproxy.config.values import Duration, nearest, split_list
from kproxy.wording import quote


class Flag(NamedTuple):
    """One flag: the field it sets (and others that follow it), and a line of help."""

    name: str
    field: str
    help: str
    also: tuple[str, ...] = ()


class ArgumentParser(argparse.ArgumentParser):
    """An ArgumentParser that speaks of a mistake in one line, names the nearest flag, and never guesses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, but end with exit code 2 where anything is left over."""
        if args is not None:
            args = [_dashes(arg) for arg in args]
        parsed, rest = super().parse_known_args(args, namespace)
        if rest:
            unknown = rest[0].partition("=")[0]
            known = re.findall(r"(?<![\w-])--[a-z][\w-]*", self.format_help())
            kind = "unknown flag" if unknown.startswith("-") else "unexpected argument"
            self.error(f"{kind} {quote(unknown)}{nearest(unknown, known)}")
        return parsed, rest

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _dashes(arg: str) -> str:
    """Turn ``--cluster_cidr=…`` into ``--cluster-cidr=…``, as Kubernetes' programs do."""
    name, equals, value = arg.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if re.fullmatch(r"--\w[\w-]*", name) else arg


class _Store(argparse.Action):
    """Puts a flag's value, of type ``kind``, into ``namespace.flags``, by the flag's name."""

    def __init__(self, *args: Any, kind: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._kind = kind

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        _option: str | None = None,
    ) -> None:
        """Read the value; argparse makes its ValueError a message that names the flag."""
        name = self.option_strings[0].lstrip("-")
        flags = dict(getattr(namespace, "flags", {}))
        try:
            flags[name] = add_up(flags.get(name), read_value(str(values), self._kind))
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        namespace.flags = flags


def add_flag(group: argparse._ArgumentGroup, flag: Flag, kind: Any) -> None:
    """Add one flag, whose value is of type ``kind``; it ends up in ``namespace.flags``."""
    group.add_argument(
        *(("-v", "--v") if flag.name == "v" else (f"--{flag.name}",)),
        action=_Store,
        kind=kind,
        dest=argparse.SUPPRESS,
        nargs="?" if kind is bool else None,
        const="true" if kind is bool else None,
        metavar=metavar(kind),
        help=flag.help.replace("%", "%%"),
    )


def metavar(kind: Any) -> str:
    """Return what help calls a value of a type."""
    if kind is bool:
        return "true|false"
    if isinstance(kind, type) and issubclass(kind, Duration):
        return "DURATION"
    return {int: "N", float: "NUMBER"}.get(kind, "LIST" if typing.get_origin(kind) else "VALUE")


def read_value(text: str, kind: Any) -> Any:
    """Read a flag's value as pflag would.

    Raises ValueError.
    """
    origin = typing.get_origin(kind)
    if origin is tuple:
        return tuple(split_list(text))
    if origin is not None:
        return dict(_gate(pair) for pair in split_list(text))
    if kind is bool:
        return _boolean(text)
    if issubclass(kind, Duration):
        return kind.parse(text)
    if issubclass(kind, enum.StrEnum):
        return choose(text, kind)
    if kind in (int, float):
        return _number(text, kind)
    return kind(text)


def _boolean(text: str) -> bool:
    words = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
    if text.lower() not in words:
        raise ValueError(f"{quote(text)} is neither true nor false")
    return words[text.lower()]


def _number(text: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{quote(text)} is not a {'whole ' if kind is int else ''}number") from None


def _gate(pair: str) -> tuple[str, bool]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        raise ValueError(f"{quote(pair)} is not a feature gate such as Name=true")
    return name.strip(), _boolean(value.strip())


def add_up(earlier: Any, value: Any) -> Any:
    """Combine the values of a repeated flag: lists and maps grow, of all else the last one counts."""
    if isinstance(earlier, tuple):
        return (*earlier, *value)
    return {**earlier, **value} if isinstance(earlier, dict) else value
