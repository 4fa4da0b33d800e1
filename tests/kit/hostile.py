"""Documents whose every text is what a stranger may have written."""

from kproxy.explain.model import Answer, EndpointShare, Flow, FrontendShown, RulePassed, Verdict
from kproxy.held.changes import Change, Changes, FamilyChanges
from kproxy.report.status import FamilyState, ServiceProblem, ServiceRate, Status, WatchState

EVIL = (
    "<img src=x onerror=document.title=1>\"'a\x1b[2J\x1b]0;owned\x07\r\n* b\u202egnp\u200b\u2066\x9b31m\u2028"
    + "x" * 5000
)
"""Escape sequences, line breaks, characters that turn the direction or that nobody sees, and a great length."""


def answer(text: str) -> Answer:
    return Answer(
        destination=text,
        address=text,
        source=text,
        sender=text,
        protocol=text,
        mode=text,
        service=text,
        frontend=FrontendShown(kind=text, address=text, port=80),
        verdict=Verdict.FORWARD,
        reason=text,
        masquerade_reason=text,
        balancing=text,
        endpoints=(EndpointShare(address=text, share=0.0, reason=text),),
        near=(text,),
        notes=(text,),
        flows=(Flow(source=text, destination=text, goes_to=text),),
        rules=(RulePassed(table=text, chain=text, number=1, rule=text, chance=1.0),),
        kernel=text,
        doubts=(text,),
    )


def changes(text: str) -> Changes:
    change = Change(service=text, table=text, chain=text, lines=(f"+{text}", f"-{text}"))
    return Changes(mode=text, families=(FamilyChanges(family=text, changes=(change,)),))


def how_it_does(text: str) -> Status:
    return Status(
        node=text,
        version=text,
        mode=text,
        since=text,
        uptime_seconds=1.0,
        healthy=False,
        ready=True,
        reasons=(text,),
        problems=(text,),
        watches=(WatchState(kind=text, synced=True, age_seconds=1.0, error=text),),
        families=(FamilyState(family=text, last_sync=text),),
        refused=(ServiceProblem(service=text, reason=text),),
        conflicts=(ServiceProblem(service=text, reason=text),),
        busiest=(ServiceRate(service=text, protocol=text, per_second=1.0, total=1),),
        untold=(text,),
    )
