"""What an administrator says about the engine."""

import msgspec


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Validated by who reads them. Times are in milliseconds."""

    state_dir: str = "/run/kproxy-ingress"
    """Where all files of HAProxy's lie; must be private to kproxy and HAProxy. An absolute path without special
    characters."""
    ipv6: bool = True
    """Whether a bind without an address takes IPv6, too."""
    trusted: tuple[str, ...] = ()
    """CIDRs of proxies in front, whose X-Forwarded and Forwarded headers are believed."""
    proxy_protocol: bool = False
    """Whether the PROXY protocol is expected: from `trusted` where that says anything, else from everybody."""
    access_log: bool = False
    histogram: bool = True
    """Whether the time to a backend's answer is counted by slot and bucket."""
    exporter: bool = False
    """Whether HAProxy's own exporter answers at a socket in `state_dir`; not every HAProxy is built with it."""
    client_timeout: int = 60_000
    server_timeout: int = 60_000
    connect_timeout: int = 5_000
    tunnel_timeout: int = 3_600_000
    drain_timeout: int = 3_600_000
    """How long a process that a reload has replaced may go on with its connections."""
    threads: int | None = None
