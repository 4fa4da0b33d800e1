"""Answers about a state that changes meanwhile: nobody is told of a difference that is only on its way."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from kproxy.config import Config
from kproxy.daemon import inspect
from kproxy.daemon.inspect import Inspector
from kproxy.explain.model import AS_PLANNED, DIFFERS, Answer, Verdict
from kproxy.explain.question import ask

QUESTION = ask("shop/web")


def answered(kernel: str) -> Answer:
    return Answer(
        destination="shop/web",
        source="",
        sender="pod",
        protocol="tcp",
        mode="iptables",
        verdict=Verdict.FORWARD,
        reason="",
        kernel=kernel,
    )


class Daemon:
    """As much of a daemon as the inspector asks; each look at the kernel finds the next of what it is given."""

    def __init__(self, *found: Answer | Exception, pending: bool = False, syncs: bool = False) -> None:
        self.looks = 0
        self._found = found
        self._pending = pending
        self._syncs = syncs

    @property
    def last_syncs(self) -> dict[str, int]:
        return {"ipv4": self.looks if self._syncs else 0}

    def snapshots(self) -> list[Any]:
        return [SimpleNamespace(pending=self._pending)]

    def explain(self, *_: object) -> Answer:
        found = self._found[min(self.looks, len(self._found) - 1)]
        self.looks += 1
        if isinstance(found, Exception):
            raise found
        return found


def asked(monkeypatch: pytest.MonkeyPatch, daemon: Daemon) -> Inspector:
    sources: Any = SimpleNamespace(proxier=daemon, reporter=daemon, interface_of=None, flows=None)
    monkeypatch.setattr(inspect, "explain", daemon.explain)
    monkeypatch.setattr(inspect, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(Inspector, "_view", lambda *_: None)
    return Inspector(Config(), 0.0, sources)


def test_what_differs_at_rest_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(answered(DIFFERS), answered(AS_PLANNED))
    assert asked(monkeypatch, daemon).explain(QUESTION).kernel == DIFFERS
    assert daemon.looks == 1


@pytest.mark.parametrize("busy", [{"pending": True}, {"syncs": True}])
def test_while_changes_are_on_their_way_it_looks_again(monkeypatch: pytest.MonkeyPatch, busy: dict[str, bool]) -> None:
    daemon = Daemon(answered(DIFFERS), answered(AS_PLANNED), **busy)
    assert asked(monkeypatch, daemon).explain(QUESTION).kernel == AS_PLANNED


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(answered(DIFFERS), pending=True)
    assert asked(monkeypatch, daemon).explain(QUESTION).kernel == DIFFERS
    assert daemon.looks == 3


def test_a_state_that_changes_under_its_hands_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(KeyError("web-1"), RuntimeError("changed"), answered(AS_PLANNED))
    assert asked(monkeypatch, daemon).explain(QUESTION).kernel == AS_PLANNED


@pytest.mark.parametrize(
    ("line", "said", "misuse"),
    [
        (b'{"ask":"explain","destination":"nowhere"}', "is no destination", True),
        (b'{"ask":"dance"}', "not a question that this kproxy knows", False),
        (b"\xff\n", "not a question that this kproxy knows", False),
        (b'{"ask":"\xc3"}', "not a question that this kproxy knows", False),
        pytest.param(b'{"ask":' + b"[" * 100_000, "not a question that this kproxy knows", False, id="deep"),
        (b'{"ask":"explain","destination":"shop/web"}', "could not find out: ZeroDivisionError", False),
    ],
)
def test_what_goes_wrong_is_told_to_who_asked(
    monkeypatch: pytest.MonkeyPatch, line: bytes, said: str, misuse: bool
) -> None:
    inspector = asked(monkeypatch, Daemon(ZeroDivisionError("x")))
    reply = msgspec.json.decode(inspector.reply(line))
    assert said in reply["error"]
    assert reply["misuse"] is misuse
