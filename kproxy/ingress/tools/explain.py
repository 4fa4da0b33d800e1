"""``kproxy explain http://HOST/PATH``: by objects in files, or by what the running program has been told."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from kproxy.api.types import Problem
from kproxy.ingress.config.settings import Settings
from kproxy.ingress.explain.answer import explain
from kproxy.ingress.explain.model import EXIT_CODES, Answer, Choice, Verdict, Way
from kproxy.ingress.explain.question import Question, QuestionError
from kproxy.ingress.explain.reply import DOOR, Reply
from kproxy.ingress.tools.objects import load
from kproxy.tools.ask import NoAnswerError, ask
from kproxy.tools.screen import faint, one_line, paint, strong, table

_PATIENCE_SECONDS = 30.0
_COLOURS = {Verdict.FORWARD: "green", Verdict.REDIRECT: "green", Verdict.REFUSE: "red", Verdict.NONE: "yellow"}
_MOST_ENDPOINTS = 40


class Explained(NamedTuple):
    """What to print, and how it ended."""

    text: str
    exit_code: int
    problems: tuple[Problem, ...] = ()


def explain_files(question: Question, files: Sequence[str], settings: Settings, *, json: bool) -> Explained:
    """Explain by objects in files. Raises QuestionError and ManifestError."""
    loaded = load(files, settings)
    return _told(explain(loaded.planned.plan, question), loaded.problems, json=json)


def explain_running(question: Question, settings: Settings, *, json: bool) -> Explained:
    """Have the running program explain. Raises QuestionError and NoAnswerError."""
    path = Path(settings.written.state_dir) / DOOR
    remedy = "does it run here, with this --state-dir? Or give objects by -f"
    reply = ask(path, question, Reply, who="kproxy ingress", remedy=remedy, seconds=_PATIENCE_SECONDS)
    if reply.answer is None:
        raise (QuestionError if reply.misuse else NoAnswerError)(reply.error)
    return _told(reply.answer, (), json=json)


def _told(answer: Answer, problems: tuple[Problem, ...], *, json: bool) -> Explained:
    if json:
        text = msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"
    else:
        text = "\n".join(_lines(answer)) + "\n"
    return Explained(text, EXIT_CODES[answer.verdict], problems)


# --- as text ---------------------------------------------------------------------------------------------------------


def _lines(answer: Answer) -> Iterator[str]:
    yield strong(one_line(f"{answer.method} {answer.url}"))
    for note in answer.notes:
        yield paint(f"  {one_line(note)}", "yellow")
    for way in answer.ways:
        yield ""
        yield from _way_lines(way)


def _way_lines(way: Way) -> Iterator[str]:
    rows = [["comes in at", f"{', '.join(way.binds)} ({way.protocol})"]]
    if way.owners:
        rows.append(["listener of", ", ".join(way.owners)])
    if way.kind:
        which = "its default backend" if way.rule == -1 else f"rule {way.rule}"
        rows += [["host", way.host], ["matches", way.match], ["by", f"{way.kind} {way.object}, {which}"]]
    yield table([[name, one_line(text)] for name, text in rows])
    yield f"  {paint(_says(way), _COLOURS[way.verdict], bold=True)}"
    yield from (f"    {one_line(change)}" for change in way.changes)
    yield from (f"    {one_line(line)}" for line in way.near)
    for choice in way.choices:
        yield from _choice_lines(choice)


def _says(way: Way) -> str:
    match way.verdict:
        case Verdict.FORWARD:
            return "is forwarded"
        case Verdict.REDIRECT:
            return one_line(f"is answered {way.status}: go to {way.location}")
        case Verdict.REFUSE:
            return f"is answered {way.status or 'with an error'}"
    return f"is answered {way.status}: no rule is met"


def _choice_lines(choice: Choice) -> Iterator[str]:
    share = f"{choice.share:.4g}"
    if not choice.service:
        yield f"  {share} of it leads to no valid backend: {choice.status}"
        return
    spoken = "" if choice.protocol == "http" else f" ({choice.protocol})"
    service = choice.service.removesuffix(":0")  # a port that does not exist
    yield one_line(f"  {share} of it to Service {service}{spoken}")
    yield from (f"    {one_line(change)}" for change in choice.changes)
    if choice.status:
        yield paint(f"    without an endpoint that is ready: {choice.status}", "red")
    rows = [
        [one_line(one.address), "draining" if one.draining else f"{one.share:.4g}"]
        for one in choice.endpoints[:_MOST_ENDPOINTS]
    ]
    if rows:
        yield from (f"  {line}" for line in table(rows).splitlines())
    if len(choice.endpoints) > _MOST_ENDPOINTS:
        yield faint(f"    and {len(choice.endpoints) - _MOST_ENDPOINTS} more")
