"""A log line is one line, says what it is about, repeats nothing, and betrays nothing."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kproxy import logs
from tests.kit.clock import Clock

TOKEN = "eyJhbGciOiJSUzI1NiIsImtpZCI6Ilgi.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    logging.getLogger("kproxy").setLevel(logging.NOTSET)


def start(form: str = "text", verbosity: int = 0) -> io.StringIO:
    stream = io.StringIO()
    logs.setup(form, verbosity, stream)
    return stream


def test_a_text_line() -> None:
    stream = start()
    logs.get("reflector").warning(
        "watch is silent", kind="Service", key="ns/a b", age=91.5, count=3, dead=True, why=None
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning reflector: watch is silent "
        r'kind=Service key="ns/a b" age=91\.5 count=3 dead=true why=None\n',
        stream.getvalue(),
    )


def test_a_json_line() -> None:
    stream = start("json")
    logs.get("proxier").info("synced", rules=12, family="IPv4", msg="field", seconds=0.25)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "proxier",
        "msg": "synced",
        "rules": 12,
        "family": "IPv4",
        "msg_": "field",
        "seconds": 0.25,
    }


@pytest.mark.parametrize(
    ("verbosity", "levels"),
    [
        (0, ["info", "warning", "error"]),
        (1, ["info", "warning", "error"]),
        (2, ["routine", "info", "warning", "error"]),
        (4, ["debug", "routine", "info", "warning", "error"]),
        (9, ["debug", "routine", "info", "warning", "error"]),
    ],
)
def test_verbosity_chooses_the_levels(verbosity: int, levels: list[str]) -> None:
    stream = start(verbosity=verbosity)
    log = logs.get("x")
    for write in (log.debug, log.routine, log.info, log.warning, log.error):
        write("m")
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == levels


def test_libraries_are_heard_at_warning_level_only() -> None:
    stream = start(verbosity=9)
    library = logging.getLogger("urllib3.connectionpool")
    library.debug("Authorization: Bearer hunter2")
    library.info("hello")
    library.warning("Retrying after %s", "reset")
    library.warning("Connection pool is full, discarding connection: %s. Connection pool size: %s", "h", 1)
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "warning urllib3.connectionpool: Retrying after reset"
    ]


def test_python_warnings_become_log_lines() -> None:
    stream = start()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "old thing" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_setting_up_again_replaces_what_was_there() -> None:
    first, second = start(), start("json")
    logs.get("x").info("m")
    assert not first.getvalue()
    assert json.loads(second.getvalue())["msg"] == "m"


@pytest.mark.parametrize("form", ["text", "json"])
@given(text=st.text(max_size=60))
@example(text="\x7f\x1b[31m\u2028\ud800")
def test_whatever_comes_in_a_line_stays_a_line(form: str, text: str) -> None:
    stream = start(form)
    logs.get("x").info(text, key=text)
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if form == "json":
        assert logs.mask(text) == json.loads(line)["key"]


def test_a_value_can_not_pose_as_another_field() -> None:
    stream = start()
    logs.get("x").info("m", name='a" level="error', other="a=b")
    assert stream.getvalue().endswith(r' name="a\" level=\"error" other="a=b"' + "\n")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        "authorization: bearer s3cr3t-s3cr3t",
        f"token was {TOKEN}, now rotated",
        "https://admin:s3cr3t-s3cr3t@10.0.0.1:6443/api",
    ],
)
def test_what_looks_like_a_credential_is_masked(form: str, text: str) -> None:
    stream = start(form)
    logs.get("x").info(text, url=text, token="s3cr3t-s3cr3t", password="s3cr3t-s3cr3t")
    logs.get("x").exception("broken", ValueError(text))
    assert "s3cr3t" not in stream.getvalue()
    assert TOKEN not in stream.getvalue()
    assert "***" in stream.getvalue()


def test_long_values_are_cut() -> None:
    stream = start()
    logs.get("x").info("m", annotation="x" * 1_000_000)
    assert len(stream.getvalue()) < 3_000


def test_an_unforeseen_error_is_one_line_with_its_traceback() -> None:
    stream = start()
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        logs.get("x").exception("sync failed", error, family="IPv4")
    (line,) = stream.getvalue().splitlines()
    assert "error sync" not in line
    assert "x: sync failed family=IPv4" in line
    assert "test_logs.py" in line


def test_a_librarys_traceback_is_one_line_too() -> None:
    stream = start()
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    (line,) = stream.getvalue().splitlines()
    assert "boom" in line


def record(level: int, message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("kproxy.x", level, __file__, 1, message, None, None)
    made.fields = fields
    return made


def test_the_same_warning_comes_once_a_minute_and_is_counted_meanwhile() -> None:
    clock = Clock()
    repeats = logs.RepeatFilter(clock)
    assert repeats.filter(record(logging.WARNING, "m", key="a"))
    assert not any(repeats.filter(record(logging.WARNING, "m", key="a")) for _ in range(5))
    assert repeats.filter(record(logging.WARNING, "m", key="b")), "another object is another warning"
    assert repeats.filter(record(logging.ERROR, "m", key="a")), "another level, too"
    clock.now += 60
    again = record(logging.WARNING, "m", key="a")
    assert repeats.filter(again)
    assert vars(again)["fields"] == {"key": "a", "repeated": 5}
    clock.now += 60
    last = record(logging.WARNING, "m", key="a")
    assert repeats.filter(last)
    assert vars(last)["fields"] == {"key": "a"}


def test_events_are_never_held_back() -> None:
    repeats = logs.RepeatFilter(Clock())
    assert all(repeats.filter(record(logging.INFO, "m")) for _ in range(5))


def test_a_flood_of_different_warnings_is_not_remembered_without_bound() -> None:
    repeats = logs.RepeatFilter(Clock(), limit=10)
    for number in range(100):
        assert repeats.filter(record(logging.WARNING, "m", key=number))
    assert len(repeats._seen) == 10
