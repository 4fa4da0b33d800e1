"""The daemon's answer to `kproxy ingress explain`, whatever it is that somebody asks."""

import msgspec
import pytest

from kproxy.ingress.explain.model import Verdict
from kproxy.ingress.explain.question import Question
from kproxy.ingress.explain.reply import Reply, replier
from tests.ingress.kit import planned, service, shop


def reply(question: bytes, *, known: bool = True) -> Reply:
    plan = planned(service("web"), shop({"shop.example.com": {"/": "web"}})).plan
    return msgspec.json.decode(replier(lambda: plan if known else None)(question), type=Reply)


def asked(url: str) -> bytes:
    return msgspec.json.encode(Question(url=url))


def test_a_question_is_answered() -> None:
    answer = reply(asked("http://shop.example.com/")).answer
    assert answer is not None
    assert answer.verdict is Verdict.FORWARD


def test_who_asks_too_early_is_told_to_ask_again() -> None:
    told = reply(asked("http://shop.example.com/"), known=False)
    assert (told.answer, told.misuse) == (None, False)
    assert told.error == "kproxy ingress does not know all objects yet; ask again"


@pytest.mark.parametrize(
    "question",
    [b"", b"{", b"[]", b'{"url": 1}', b'{"url": "\xff"}', b'{"more": ' + b"[" * 100_000],
    ids=["nothing", "half", "a list", "a number", "half a character", "nested too deeply"],
)
def test_what_is_no_question_is_told_so(question: bytes) -> None:
    assert reply(question) == Reply(error="this is no question", misuse=True)


def test_a_url_that_is_none_is_a_mistake_of_who_asks() -> None:
    told = reply(asked("http://[::1/"))
    assert told.misuse
    assert "is no URL" in told.error
