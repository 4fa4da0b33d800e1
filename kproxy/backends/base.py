"""What the proxier asks of a backend, whichever it is."""

from collections.abc import Mapping, Sequence, Set
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


class Counts(msgspec.Struct, frozen=True):
    """New connections since the rules that count them were first written, as far as this backend's rules tell."""

    services: Mapping[ServicePortName, int]
    endpoints: Mapping[tuple[ServicePortName, str], int]
    """By service port and ``ip:port``."""
    rejected: Mapping[ServicePortName, int]
    dropped: Mapping[ServicePortName, int]
    invalid_dropped: int | None = None
    """Packets dropped because conntrack could not place them; None where no rule does so."""
    localhost: LocalhostCounts | None = None
    """None where node ports don't answer at localhost."""


class Backend(Protocol):
    """Brings one address family's kernel rules in line with a plan.

    Not thread-safe: one thread calls it. Every method may raise `BackendError`.
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

    def counts(self) -> Counts:
        """Read from the kernel how many connections went where."""

    def cleanup(self) -> None:
        """Remove all that is kproxy's, and nothing else."""

    def close(self) -> None:
        """Let go of what it holds of the system's; the rules stay in force. Nothing may be asked of it any more."""
