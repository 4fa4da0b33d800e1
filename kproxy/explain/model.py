"""The answer to "what becomes of this connection?": the document that ``kproxy explain -o json`` prints.

Fields are only ever added. Shares are exact fractions rounded to nine digits.
"""

import enum

import msgspec


class Verdict(enum.StrEnum):
    """What becomes of a new connection."""

    FORWARD = "forward"
    """It goes to one of the endpoints."""
    REJECT = "reject"
    """The client is told at once that nobody is there."""
    DROP = "drop"
    """Silence."""
    NONE = "none"
    """No Service is meant; kproxy leaves the packet as it is."""


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is printed."""


class EndpointShare(Model, frozen=True, kw_only=True):
    """One endpoint of the Service."""

    address: str
    share: float
    """Its part of new connections, 0 to 1."""
    reason: str | None = None
    """Why it gets none; null where it gets some."""
    masquerade: bool = False
    """Whether it sees the node's address instead of the sender's."""
    local: bool = False
    """Whether it is on this node."""


class FrontendShown(Model, frozen=True, kw_only=True):
    """The address and port that was met."""

    kind: str
    """cluster IP, external IP, loadbalancer IP or node port."""
    address: str
    port: int


class Flow(Model, frozen=True, kw_only=True):
    """Connections of one client that conntrack holds for this destination already."""

    source: str
    """The client's address."""
    destination: str
    goes_to: str
    """Where its packets end up."""
    number: int = 1
    """How many of them there are."""


class RulePassed(Model, frozen=True, kw_only=True):
    """A rule on the way, as the kernel holds it."""

    table: str
    chain: str
    number: int
    """Within its chain, from 1."""
    rule: str
    chance: float
    """How likely such a packet meets it."""
    packets: int | None = None
    """How many packets it has counted; null where it does not count."""
    octets: int | None = None


class ElementFound(Model, frozen=True, kw_only=True):
    """An element of an nftables set or map that such a packet is found by."""

    table: str
    set: str
    element: str
    packets: int
    """How many packets found it; 0 where it does not count."""


class Difference(Model, frozen=True, kw_only=True):
    """Where the kernel's rules part from the plan."""

    what: str
    """The whole of it in words."""
    table: str | None = None
    chain: str | None = None
    rule: str | None = None
    """The rule that is there and should not be, or that is missing."""
    kind: str = "outcome"
    """added (a rule that is not kproxy's), missing (one of kproxy's) or outcome (only what comes of it is known)."""


class Answer(Model, frozen=True, kw_only=True):
    """All that is to be said about one connection."""

    destination: str
    """What was asked about."""
    address: str | None = None
    """The address and port that packets carry; null where the destination names none."""
    source: str
    sender: str
    """Who that is: pod, node, outside, or address."""
    protocol: str
    mode: str
    """iptables or nftables."""
    service: str | None = None
    frontend: FrontendShown | None = None
    verdict: Verdict
    reason: str
    masquerade: bool | str = False
    """True, False, or "hairpin" where only connections of an endpoint to itself are masqueraded."""
    masquerade_reason: str | None = None
    balancing: str | None = None
    """How endpoints are chosen; null where nothing is forwarded."""
    affinity_seconds: int = 0
    endpoints: tuple[EndpointShare, ...] = ()
    near: tuple[str, ...] = ()
    """What may have been meant."""
    notes: tuple[str, ...] = ()
    flows: tuple[Flow, ...] = ()
    rules: tuple[RulePassed, ...] = ()
    elements: tuple[ElementFound, ...] = ()
    """Elements of sets and maps on the way, in mode nftables, where these count rather than rules."""
    kernel: str | None = None
    """as planned, differs; null where the kernel was not asked."""
    differences: tuple[Difference, ...] = ()
    doubts: tuple[str, ...] = ()
    """Rules of others that could not be judged; they were taken not to match."""


AS_PLANNED, DIFFERS = "as planned", "differs"

EXIT_CODES = {Verdict.FORWARD: 0, Verdict.REJECT: 3, Verdict.DROP: 3, Verdict.NONE: 4}
