"""What is to be said of the objects of Gateway API, as data: conditions without the clock.

The reasons are Gateway API's own words (apis/v1). When a condition changed last, and whether it says anything new, is
for `kproxy.ingress.status` to find out.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.httproute import ParentReference

TRUE, FALSE = "True", "False"

ACCEPTED = "Accepted"
PROGRAMMED = "Programmed"
RESOLVED_REFS = "ResolvedRefs"
CONFLICTED = "Conflicted"
PARTIALLY_INVALID = "PartiallyInvalid"
OVERLAPPING_TLS = "OverlappingTLSConfig"


class Verdict(NamedTuple):
    """One condition: whether it holds, why in one word, and why in a sentence."""

    status: str
    reason: str
    message: str = ""

    @property
    def holds(self) -> bool:
        """Whether the status is True."""
        return self.status == TRUE


Verdicts: TypeAlias = Mapping[str, Verdict]
"""By the type of the condition."""


class ClassVerdict(NamedTuple):
    """What is said of a GatewayClass of ours."""

    key: ObjectKey
    conditions: Verdicts


class ListenerVerdict(NamedTuple):
    """What is said of one listener."""

    name: str
    kinds: tuple[str, ...]
    """The kinds of routes that it takes, all of Gateway API's own group."""
    attached: int
    conditions: Verdicts


class GatewayVerdict(NamedTuple):
    """What is said of a Gateway of ours, as far as it is known before an engine has got the plan."""

    key: ObjectKey
    conditions: Verdicts
    listeners: tuple[ListenerVerdict, ...]
    addresses: tuple[str, ...]
    """The addresses at which its listeners are bound; empty for all, or where a Service is in front."""
    ports: tuple[int, ...]
    """The ports of its listeners that are served, sorted: what a Service in front of it has to have."""


class ParentVerdict(NamedTuple):
    """What is said of a route by one of its parents; the reference is repeated as it was given."""

    parent: ParentReference
    conditions: Verdicts


class RouteVerdict(NamedTuple):
    """What is said of an HTTPRoute, by those of its parents that are ours."""

    key: ObjectKey
    parents: tuple[ParentVerdict, ...]
