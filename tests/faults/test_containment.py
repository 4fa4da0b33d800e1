"""No failure of one part ends another: it is named, counted, and left behind."""

import errno
import threading
from collections.abc import Iterator

import pytest

from kproxy.faults import containment
from kproxy.report.metrics import Metrics
from tests.kit.logged import Logged


@pytest.fixture(autouse=True)
def hook() -> Iterator[None]:
    before = threading.excepthook
    yield
    threading.excepthook = before


def test_what_the_system_says_takes_one_line_with_the_remedy(logged: Logged) -> None:
    before = containment.counts().get("test", 0)
    with containment.contained("test"):
        raise OSError(errno.EMFILE, "Too many open files", "/proc/net/dev")
    assert containment.counts()["test"] == before + 1
    (record,) = logged.records
    fields = record.fields  # type: ignore[attr-defined]
    assert fields["part"] == "test"
    assert fields["problem"].startswith("/proc/net/dev: Too many open files; the limit on open files")
    assert "traceback" not in fields


def test_a_mistake_in_kproxy_shows_where_it_is(logged: Logged) -> None:
    with containment.contained("test"):
        raise KeyError("x")
    assert "KeyError" in logged.records[0].fields["traceback"]  # type: ignore[attr-defined]


def test_ends_are_not_failures() -> None:
    with pytest.raises(SystemExit), containment.contained("test"):
        raise SystemExit(3)


def test_a_thread_that_ends_is_named(logged: Logged) -> None:
    def work() -> None:
        raise RuntimeError("a bug")

    containment.watch_threads()
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    assert containment.counts()["thread worker"] >= 1
    assert "a part of kproxy failed; all others go on" in logged.messages


def test_failures_are_counted_by_part() -> None:
    with containment.contained("test"):
        raise OSError(errno.ENOMEM, "no memory")
    text = Metrics().exposition().decode()
    assert 'kproxy_part_failures_total{part="loop"}' in text
    assert f'kproxy_part_failures_total{{part="test"}} {float(containment.counts()["test"])}' in text
