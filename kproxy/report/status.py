"""How kproxy does, on one screen: the document that ``kproxy status -o json`` prints. Fields are only ever added."""

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is printed."""


class WatchState(Model, frozen=True, kw_only=True):
    """One watch on the API server, or on a folder."""

    kind: str
    synced: bool
    age_seconds: float
    """Since it last proved to be alive."""
    error: str | None = None


class FamilyState(Model, frozen=True, kw_only=True):
    """What there is in one address family."""

    family: str
    services: int | None = None
    """Service ports; null where that cannot be told from afar, as the next."""
    endpoints: int | None = None
    rules: int | None = None
    """Rules of kproxy's in the kernel."""
    last_sync: str | None = None
    """When the rules were last brought in line (RFC 3339); null where they never were."""
    sync_seconds: float | None = None
    """How long that took."""
    full: bool | None = None
    """Whether all rules were compared with the kernel's then."""
    pending: bool = False
    """Whether changes wait for a sync."""


class ServiceRate(Model, frozen=True, kw_only=True):
    """How busy a service port is."""

    service: str
    protocol: str
    per_second: float
    """New connections a second, or packets refused or dropped."""
    total: int


class ServiceProblem(Model, frozen=True, kw_only=True):
    """A service port that is not served as its owner may expect."""

    service: str
    reason: str


class Status(Model, frozen=True, kw_only=True):
    """All of it."""

    node: str
    version: str | None = None
    """Null where that cannot be found out from afar; see ``untold``. So are the next."""
    mode: str | None = None
    """iptables or nftables."""
    since: str | None = None
    """When it was started (RFC 3339)."""
    uptime_seconds: float | None = None
    healthy: bool | None
    ready: bool | None
    reasons: tuple[str, ...] = ()
    """Why not, where it is not."""
    watches: tuple[WatchState, ...] = ()
    families: tuple[FamilyState, ...] = ()
    problems: tuple[str, ...] = ()
    """What is wrong with the node."""
    refused: tuple[ServiceProblem, ...] = ()
    """Service ports that the kernel would not take."""
    conflicts: tuple[ServiceProblem, ...] = ()
    """Service ports that lose an address to another."""
    busiest: tuple[ServiceRate, ...] = ()
    """By new connections a second."""
    turned_away: tuple[ServiceRate, ...] = ()
    """Those whose clients are refused or dropped."""
    untold: tuple[str, ...] = ()
    """Of another node: what could not be found out, and why."""
