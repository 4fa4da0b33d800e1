"""Conditions: from verdicts, and from what an object's status holds already. Source: meta/v1 Condition."""

from collections.abc import Sequence

from kproxy.ingress.api.meta import Condition
from kproxy.ingress.plan.gateway.verdicts import Verdicts
from kproxy.wording import printable

MOST_MESSAGE = 1000


def merge(
    present: Sequence[Condition] | None, verdicts: Verdicts, generation: int, now: str, own: frozenset[str]
) -> tuple[Condition, ...]:
    """Return the conditions that an object should have.

    A condition keeps its time while its status stays what it is. Conditions of types that are not our ``own`` are
    somebody else's and stay as they are; own ones without a verdict go. Nothing changes where the present conditions
    are of a later generation than the one that was judged: somebody knows more, and so shall we soon.
    """
    held = {condition.type: condition for condition in present or ()}
    if any(held[kind].observed_generation > generation for kind in verdicts if kind in held):
        return tuple(present or ())
    kept = [condition for condition in present or () if condition.type not in own or condition.type in verdicts]
    order = [condition.type for condition in kept]
    order += [kind for kind in verdicts if kind not in order]
    return tuple(
        _condition(kind, held.get(kind), verdicts, generation, now) if kind in verdicts else held[kind]
        for kind in order
    )


def _condition(kind: str, before: Condition | None, verdicts: Verdicts, generation: int, now: str) -> Condition:
    verdict = verdicts[kind]
    same = before is not None and before.status == verdict.status and before.last_transition_time
    return Condition(
        type=kind,
        status=verdict.status,
        reason=verdict.reason,
        message=printable(verdict.message, MOST_MESSAGE),
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before is not None and same else now,
    )
