"""What the proxier asks of a backend, whichever it is."""

import enum
from collections.abc import Collection, Mapping, Sequence, Set
from typing import NamedTuple, Protocol

import msgspec

from kproxy.plan.model import Destination, Plan
from kproxy.state.model import IPFamily, ServicePortName


class BackendError(Exception):
    """The kernel could not be brought to the wanted state; what was in force before still is. Worth a retry."""


class MissingError(BackendError):
    """Something that an engine needs is not to be had on this machine."""


class Refused(msgspec.Struct, frozen=True):
    """A service the kernel would not take: left out, so that all others get through."""

    name: ServicePortName
    reason: str


class SyncReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one successful `Backend.apply` did."""

    full: bool
    """Whether the kernel's tables were read and compared as a whole, not only patched where the plan changed."""
    rules: Mapping[str, int]
    """Rules of kproxy's now in force, by table."""
    written: Mapping[str, int] = {}
    """Of those, the ones in chains that this sync had to see to, by table; in a full one, all."""
    repaired: int = 0
    """Chains found to be other than kproxy had left them; only a full sync notices."""
    refused: Sequence[Refused] = ()


class LocalhostCounts(NamedTuple):
    """Connections to node ports at localhost, told by what is counted: they are the first less the second."""

    asked: int
    """All connections there that came as far as the node ports."""
    left: int
    """Those of them that were for no node port."""


class Of(enum.Enum):
    """What a counter counts for a service port."""

    CONNECTIONS = enum.auto()
    """New connections, and where it is an endpoint's, those of the endpoint as well."""
    ENDPOINT = enum.auto()
    """Connections given to an endpoint, which something else counts for the service port."""
    REJECTED = enum.auto()
    DROPPED = enum.auto()


class Counter(NamedTuple):
    """One counter of the kernel's; it begins at 0 when the rule that counts is written."""

    name: str
    """The same for as long as it is the same counter; no two of a service port have the same."""
    of: Of
    packets: int
    endpoint: str = ""
    """As ``ip:port``, if it is an endpoint's."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules count at some moment, of those service ports where that may be other than it was the time before.

    A service port that is told of is told of with all its counters; any other that it had are no more.
    """

    services: Collection[ServicePortName] = ()
    """All there are, counted or not."""
    counters: Mapping[ServicePortName, Sequence[Counter]] = {}
    """Those that are no endpoint's."""
    endpoints: Mapping[ServicePortName, Sequence[Counter]] = {}
    """Those of endpoints."""
    there: Mapping[ServicePortName, Sequence[str]] = {}
    """The endpoints there are, as ``ip:port``, of service ports where these may be others than the last time; of new
    ones not all where there are very many."""
    ended: Sequence[tuple[ServicePortName, Counter]] = ()
    """Counters that have gone since the last time, with what they had counted in the end. Some may be back above."""
    number_of_endpoints: int = 0
    invalid_dropped: int | None = None
    """Packets dropped because conntrack could not place them; None where no rule does so."""
    localhost: LocalhostCounts | None = None
    """None where node ports don't answer at localhost."""
    waiting: int = 0
    """Service ports whose endpoints' counters may have moved and could not be read this time."""


class Backend(Protocol):
    """Brings one address family's kernel rules in line with a plan.

    Not thread-safe, but for `counts`: one thread calls it. Every method may raise `BackendError`.
    """

    family: IPFamily

    def apply(self, plan: Plan, changed: Set[ServicePortName], *, full: bool) -> SyncReport:
        """Make the kernel do what ``plan`` says.

        ``changed`` names the services whose plans are new, different or gone since the last call, whether that one
        succeeded or not. ``full`` asks for a comparison with all that the kernel holds, which repairs what others
        changed; a backend also does so by itself on its first call, and on the one after a failure.
        """

    def drifted(self) -> bool:
        """Tell, cheaply, whether somebody else has changed the tables since the last apply."""

    def udp_frontends(self) -> Set[Destination]:
        """Read where the rules in force now, whoever wrote them, take in UDP for services.

        Asked before the first apply: what is served there and by no service any more has left flows behind.
        """

    def counts(self) -> Counts | None:
        """Read from the kernel how many connections went where; None if the rules keep changing meanwhile.

        The only method that another thread calls, also while this one is in another. What one call tells, the next
        counts on having been heard.
        """

    def cleanup(self) -> None:
        """Remove all that is kproxy's, and nothing else."""

    def close(self) -> None:
        """Let go of what it holds of the system's; the rules stay in force. Nothing may be asked of it any more."""
