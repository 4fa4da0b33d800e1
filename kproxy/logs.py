"""Logging: one line per event, with the objects it is about as key=value fields.

It is the standard library's logging with a formatter of its own, behind a small wrapper that takes fields as keyword
arguments. What reaches a log line may come from anybody who may create a Service, so values are escaped: a line stays a
line, and nobody can forge another one or drive a terminal. Repeated warnings are counted instead of repeated. Secrets
have no business in a log; what looks like one is masked all the same.

Levels follow kube-proxy's ``-v``: events of note are always logged, `Log.routine` with ``-v 2``, `Log.debug` with
``-v 4``. Libraries are only ever heard at warning level: their debug output holds headers, and with them tokens.
"""

import datetime
import json
import logging
import re
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TextIO

ROUTINE = 15
"""The level between INFO and DEBUG: what happens all the time in a cluster that is in order."""
_NAMES: Mapping[int, str] = {
    logging.DEBUG: "debug",
    ROUTINE: "routine",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
}
_ROOT = "kproxy"
_MAX_VALUE = 2_000
_REPEAT_SECONDS = 60.0
_SECRET_NAMES = frozenset({"authorization", "client_key", "password", "secret", "token"})
_SECRETS = re.compile(
    r"(?P<bearer>\bbearer\s+)\S+"  # an Authorization header
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # a JSON web token, such as a service account's
    r"|(?P<scheme>\w://)[^/@\s]+@",  # user and password in a URL
    re.IGNORECASE,
)


class Log:
    """A named source of log lines. Fields are written in the order given; their values may be anything with a str()."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{name}")

    def debug(self, message: str, /, **fields: object) -> None:
        """Log what only somebody who reads the code wants to know."""
        self._log(logging.DEBUG, message, fields)

    def routine(self, message: str, /, **fields: object) -> None:
        """Log what happens all the time."""
        self._log(ROUTINE, message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        """Log an event of note."""
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """Log what somebody should look at; kproxy goes on."""
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Log what keeps kproxy from doing its work."""
        self._log(logging.ERROR, message, fields)

    def exception(self, message: str, error: BaseException, /, **fields: object) -> None:
        """Log an error nobody foresaw, with its traceback, on one line."""
        trace = "".join(traceback.format_exception(error))
        self._log(logging.ERROR, message, {**fields, "error": repr(error), "traceback": trace})

    def _log(self, level: int, message: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", message, extra={"fields": fields})


def get(name: str) -> Log:
    """Return the log of one part of kproxy."""
    return Log(name)


def setup(form: str = "text", verbosity: int = 0, stream: TextIO | None = None) -> None:
    """Start logging, or change how it is done.

    ``form`` is ``text`` or ``json``, ``verbosity`` what kube-proxy's ``-v`` means, ``stream`` stderr by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter() if form == "json" else TextFormatter())
    handler.addFilter(tells_something)
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if getattr(old, "kproxy", False):
            root.removeHandler(old)
    handler.kproxy = True  # type: ignore[attr-defined] # marks it as ours, for the next setup
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(_level(verbosity))
    logging.captureWarnings(capture=True)


def _level(verbosity: int) -> int:
    if verbosity >= 4:
        return logging.DEBUG
    return ROUTINE if verbosity >= 2 else logging.INFO


def tells_something(record: logging.LogRecord) -> bool:
    """Tell whether a line is worth a place; a connection that is closed instead of kept is no trouble to anybody."""
    return not (record.name == "urllib3.connectionpool" and str(record.msg).startswith("Connection pool is full"))


class RepeatFilter(logging.Filter):
    """Lets the same warning or error through once a minute, and then says how often it came meanwhile.

    Remembers 1,000 of them at most: enough for any one trouble, and bounded under a flood of different ones.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: int = 1_000) -> None:
        super().__init__()
        self._clock = clock
        self._limit = limit
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log; adds ``repeated`` to the fields where some were held back before."""
        if record.levelno < logging.WARNING:
            return True
        fields = _fields(record)
        key = repr((record.name, record.levelno, record.getMessage(), [(name, str(fields[name])) for name in fields]))
        now = self._clock()
        since, held_back = self._seen.get(key, (-_REPEAT_SECONDS, 0))
        if now - since < _REPEAT_SECONDS:
            self._seen[key] = (since, held_back + 1)
            return False
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        if held_back:
            record.fields = {**fields, "repeated": held_back}
        return True


class TextFormatter(logging.Formatter):
    """``2026-01-02T03:04:05.678Z warning reflector: watch is silent kind=Service age=91s``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line without control characters."""
        words = [f"{_time(record)} {_level_name(record)} {_source(record)}: {_escape(mask(record.getMessage()))}"]
        words += [f"{name}={_text_value(value)}" for name, value in _shown(record).items()]
        return " ".join(words)


class JSONFormatter(logging.Formatter):
    """One JSON object a line, with ``time``, ``level``, ``logger`` and ``msg`` before the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        head = {
            "time": _time(record),
            "level": _level_name(record),
            "logger": _source(record),
            "msg": mask(record.getMessage()),
        }
        fields = {f"{name}_" if name in head else name: value for name, value in _shown(record).items()}
        return json.dumps({**head, **fields}).replace("\x7f", "\\u007f")  # DEL is the one control character JSON allows


def mask(text: str) -> str:
    """Replace what looks like a credential."""

    def masked(match: re.Match[str]) -> str:
        if match["scheme"]:
            return f"{match['scheme']}***@"
        return f"{match['bearer'] or ''}***"

    return _SECRETS.sub(masked, text)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1] and not fields:
        return {"traceback": "".join(traceback.format_exception(record.exc_info[1]))}
    return fields


def _shown(record: logging.LogRecord) -> dict[str, str | int | float | bool | None]:
    """Return the fields as they may be shown: masked and shortened; numbers stay numbers."""
    return {name: _show(name, value) for name, value in _fields(record).items()}


def _show(name: str, value: object) -> str | int | float | bool | None:
    if name.lower() in _SECRET_NAMES:
        return "***"
    if value is None or type(value) in (bool, int, float):
        return value  # type: ignore[return-value] # type() narrows less than isinstance, but spares the enums
    text = mask(str(value))
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _text_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if text and text.isprintable() and not re.search(r'[\s"=\\]', text):
        return text
    return f'"{_escape(text, quotes=True)}"'


def _escape(text: str, *, quotes: bool = False) -> str:
    """Escape what is no plain printable character, and for a value in quotes also those that would end it."""
    if quotes:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if text.isprintable() else "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _level_name(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname.lower())


def _source(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{_ROOT}.")
