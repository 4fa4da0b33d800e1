"""What of a plan can be left out by itself when HAProxy refuses it: a rule, a certificate, an address."""

from collections.abc import Iterable, Mapping

from kproxy.api.types import ObjectKey
from kproxy.ingress.haproxy.compile.compiler import LeftOut
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.model import Bind, Plan

Unit = RuleKey | ObjectKey | Bind
"""Named by its type: an `ObjectKey` is the Secret of a certificate."""


def units_of(plan: Plan) -> Mapping[Unit, object]:
    """Return all units with what they are made of: one that has been refused is tried again once that changes."""
    matches: dict[RuleKey, list[object]] = {}
    for frontend in plan.frontends:
        for listener in frontend.listeners:
            for host in listener.hosts:
                for route in host.routes:
                    matches.setdefault(route.rule, []).append(route.match)
    units: dict[Unit, object] = {key: (rule, tuple(matches.get(key, ()))) for key, rule in plan.rules.items()}
    units |= dict(plan.certificates.items())
    units |= {bind: bind for frontend in plan.frontends for bind in frontend.binds}
    return units


def left_out(units: Iterable[Unit]) -> LeftOut:
    """Return some units, sorted by what they are."""
    found = list(units)
    return LeftOut(
        rules=frozenset(unit for unit in found if isinstance(unit, RuleKey)),
        certificates=frozenset(unit for unit in found if isinstance(unit, ObjectKey)),
        binds=frozenset(unit for unit in found if isinstance(unit, Bind)),
    )
