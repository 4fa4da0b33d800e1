"""What a running program replies to a question, and where it is asked."""

from collections.abc import Callable

import msgspec

from kproxy.faults.undecodable import UNDECODABLE
from kproxy.ingress.explain.answer import explain
from kproxy.ingress.explain.model import Answer
from kproxy.ingress.explain.question import Question, QuestionError
from kproxy.ingress.plan.model import Plan

DOOR = "kproxy.sock"
"""The socket at which questions are answered, in the state folder."""


class Reply(msgspec.Struct, frozen=True):
    """An answer, or why there is none."""

    answer: Answer | None = None
    error: str = ""
    misuse: bool = False
    """Whether the question is at fault."""


def replier(plan: Callable[[], Plan | None]) -> Callable[[bytes], bytes]:
    """Return what turns questions into replies; it never raises."""

    def reply(question: bytes) -> bytes:
        return msgspec.json.encode(_reply(plan(), question))

    return reply


def _reply(plan: Plan | None, question: bytes) -> Reply:
    if plan is None:
        return Reply(error="kproxy ingress does not know all objects yet; ask again")
    try:
        return Reply(explain(plan, msgspec.json.decode(question, type=Question)))
    except QuestionError as error:
        return Reply(error=str(error), misuse=True)
    except UNDECODABLE:
        return Reply(error="this is no question", misuse=True)
