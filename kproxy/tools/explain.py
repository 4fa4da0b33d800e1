"""``kproxy explain``: what becomes of a connection, and why; from objects in files, or of the daemon on this node."""

import contextlib
import gc
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from kproxy.api.types import Problem
from kproxy.config import Config, ProxyMode
from kproxy.explain.answer import explain
from kproxy.explain.model import EXIT_CODES, Answer
from kproxy.explain.protocol import ExplainQuestion
from kproxy.explain.question import Question, QuestionError, ask
from kproxy.tools.ask import ask_daemon
from kproxy.tools.explained import as_text
from kproxy.tools.narrow import narrowed
from kproxy.tools.objects import Loaded, Sources, load, views
from kproxy.tools.screen import as_json, harmless


class ExplainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``kproxy explain`` is asked for beyond the configuration."""

    destination: str
    sender: str = "pod"
    protocol: str = ""
    family: str = ""
    json: bool = False


class Explained(NamedTuple):
    """What to print, and how it ended."""

    text: str
    exit_code: int
    problems: tuple[Problem, ...] = ()


def question_of(request: ExplainRequest) -> Question:
    """Return what is asked. Raises QuestionError."""
    if request.destination.startswith(("http://", "https://")):
        raise QuestionError(f"{request.destination}: URLs are for kproxy ingress; give the address or the Service")
    return ask(request.destination, sender=request.sender, protocol=request.protocol, family=request.family)


def explain_files(request: ExplainRequest, sources: Sources, config: Config) -> Explained:
    """Explain by objects in files.

    Raises:
        QuestionError: where the destination makes no sense.
        ManifestError: where a file cannot be read.
    """
    question = question_of(request)
    mode = "nftables" if config.mode is ProxyMode.NFTABLES else "iptables"
    with _without_collector():
        return _explained(request, question, load(sources, config), mode)


def _explained(request: ExplainRequest, question: Question, loaded: Loaded, mode: str) -> Explained:
    few = msgspec.structs.replace(loaded, objects=narrowed(loaded.objects, question.destination))
    found, problems = views(few, mode)
    answer = explain(found, question)
    if answer.frontend is None and not answer.near:  # what may have been meant is to be looked for everywhere
        found, problems = views(loaded, mode)
        answer = explain(found, question)
    return _told(request, answer, problems)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Have no garbage looked for: a process that ends in a moment makes none, and half its time would go into it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def explain_daemon(request: ExplainRequest, config: Config) -> Explained:
    """Have the daemon on this node explain.

    Raises:
        QuestionError: where the destination makes no sense.
        NoAnswerError: where there is none.
    """
    question_of(request)  # what makes no sense is said without asking anybody
    question = ExplainQuestion(
        destination=request.destination, sender=request.sender, protocol=request.protocol, family=request.family
    )
    return _told(request, msgspec.json.decode(ask_daemon(config, question), type=Answer))


def _told(request: ExplainRequest, answer: Answer, problems: tuple[Problem, ...] = ()) -> Explained:
    text = as_json(answer) if request.json else as_text(harmless(answer))
    return Explained(text, EXIT_CODES[answer.verdict], problems)
