"""Health-check node ports: where load balancers ask whether this node has endpoints of a service.

A Service of type LoadBalancer with externalTrafficPolicy Local has one (``spec.healthCheckNodePort``). The answer is
kube-proxy's, to the letter (pkg/proxy/healthcheck/service_health.go): 200 where there is a ready endpoint here and
kproxy gets its syncs done, else 503; the number of endpoints comes along, so that a load balancer can weigh nodes.

Hundreds of ports cost hundreds of sockets and nothing else: one handler, on the one event loop of `HttpServers`, looks
at the port that a request came in by.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future
from typing import NamedTuple

from kproxy import logs
from kproxy.api.types import ObjectKey
from kproxy.config import BindAddress
from kproxy.faults.containment import contained
from kproxy.plan.model import Plan
from kproxy.report.http import RETRY_SECONDS, HttpServers
from kproxy.report.ports import BindError
from kproxy.report.protocol import Request, Response
from kproxy.state.model import IPFamily, ServicePortName

log = logs.get("healthcheck")

_NO_LIMIT = 1 << 16


class HealthCheck(NamedTuple):
    """What a health-check node port tells."""

    service: ObjectKey
    local_endpoints: int
    """Ready endpoints on this node."""


class HealthCheckFailure(NamedTuple):
    """A health-check node port that could not be opened: worth an Event on the Service."""

    service: ObjectKey
    port: int
    reason: str


class HealthCheckServers:
    """Keeps a listener open for each health-check node port."""

    def __init__(
        self,
        servers: HttpServers,
        proxy_healthy: Callable[[], bool],
        *,
        failed: Callable[[HealthCheckFailure], None] = lambda _: None,
        counted: Callable[[int, int], None] = lambda _serving, _failed: None,
        short: Callable[[int], None] = lambda _: None,
        spare: Callable[[], int] = lambda: _NO_LIMIT,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Begin with no port at all; ``servers`` must have been started.

        ``spare`` tells how many more listeners the process may open, and ``short`` hears of how many it lacks.

        ``failed`` hears of each port that can't be opened, once until it can be; ``counted`` of how many ports are
        served and how many are not, after each change. Both are called on the thread of ``servers`` and must be quick.
        """
        self._servers = servers
        self._proxy_healthy = proxy_healthy
        self._failed = failed
        self._counted = counted
        self._short = short
        self._spare = spare
        self._retry_seconds = retry_seconds
        self._protocol = servers.protocol(self._answer, inline=True)
        # From here on, only the thread of `servers` looks at this.
        self._checks: Mapping[int, HealthCheck] = {}
        self._addresses: tuple[str, ...] = ()
        self._listeners: dict[BindAddress, asyncio.Server] = {}
        self._reported: dict[int, HealthCheckFailure] = {}
        self._missing: Set[int] = frozenset()
        self._lacking = 0
        self._retry: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def sync(self, checks: Mapping[int, HealthCheck], addresses: Iterable[str] | None = None) -> "Future[None]":
        """Serve exactly these ports, at these addresses of the node (all addresses of both families for None).

        Returns at once; the future is for those who want to know when it is done. Ports that can't be opened are tried
        again until they can.
        """
        wanted = ("",) if addresses is None else tuple(sorted(set(addresses)))
        return self._servers.submit(self._take(dict(checks), wanted))

    async def _take(self, checks: Mapping[int, HealthCheck], addresses: tuple[str, ...]) -> None:
        self._checks, self._addresses = checks, addresses
        with contained("health-check node ports"):
            async with self._one_at_a_time:
                await self._reconcile()
        if self._missing and self._retry is None:
            self._retry = asyncio.create_task(self._keep_trying())

    async def _keep_trying(self) -> None:
        while self._missing:
            await asyncio.sleep(self._retry_seconds)
            with contained("health-check node ports"):
                async with self._one_at_a_time:
                    await self._reconcile()
        self._retry = None

    async def _reconcile(self) -> None:
        """Close what is no longer wanted, then open what is missing."""
        wanted = {BindAddress(address, port) for port in self._checks for address in self._addresses}
        for bind in self._listeners.keys() - wanted:
            await self._servers.close(self._listeners.pop(bind))
            log.routine("closed a health-check node port", address=bind)
        missing = sorted(wanted - self._listeners.keys())
        spare = self._spare() if missing else 0
        self._tell_shortage(max(0, len(missing) - spare))
        failures: dict[int, HealthCheckFailure] = {}
        for bind in missing[:spare]:
            service = self._checks[bind.port].service
            try:
                self._listeners[bind] = await self._servers.listen(self._protocol, bind)
            except BindError as error:
                failures[bind.port] = HealthCheckFailure(service, bind.port, str(error))
            else:
                log.routine("opened a health-check node port", service=service, address=bind)
        self._report(failures, {bind.port for bind in missing[spare:]})

    def _tell_shortage(self, lacking: int) -> None:
        """Say once, not for each port, that there are no descriptors for all of them."""
        if lacking != self._lacking:
            self._lacking = lacking
            self._short(lacking)

    def _report(self, failures: Mapping[int, HealthCheckFailure], without: Set[int]) -> None:
        for port, failure in failures.items():
            if self._reported.get(port) != failure:
                log.warning(
                    "a health-check node port could not be opened; trying again",
                    service=failure.service,
                    problem=failure.reason,
                )
                self._failed(failure)
        self._reported = dict(failures)
        self._missing = failures.keys() | without
        self._counted(len(self._checks) - len(self._missing), len(self._missing))

    def _answer(self, request: Request) -> Response:
        """Answer on the loop's thread, where ``_checks`` belongs."""
        check = self._checks.get(request.port)
        if check is None:  # closed a moment ago, with this connection still open
            return Response(503, "no service has this health-check node port any more\n", close=True)
        return health_check_response(check, proxy_healthy=self._proxy_healthy())


class HealthCheckPorts:
    """Keeps the listeners in line with the plans: which Services have such a port, and at which addresses."""

    def __init__(self, servers: HealthCheckServers) -> None:
        self._servers = servers
        self._wanted: dict[int, dict[tuple[IPFamily, ServicePortName], HealthCheck]] = {}
        self._ports: dict[tuple[IPFamily, ServicePortName], int] = {}
        self._applied: tuple[object, object] = ({}, None)

    def update(self, plan: Plan, changed: frozenset[ServicePortName]) -> None:
        """Take note of what changed in one family."""
        for name in changed:
            key = (plan.node.family, name)
            if port := self._ports.pop(key, 0):
                del self._wanted[port][key]
            service = plan.services.get(name)
            if service is not None and service.health_check_node_port:
                port = self._ports[key] = service.health_check_node_port
                self._wanted.setdefault(port, {})[key] = HealthCheck(name.service, service.local_ready)

    def apply(self, plans: Sequence[Plan]) -> None:
        """Open, close and change what is different from before."""
        self._wanted = {port: found for port, found in self._wanted.items() if found}
        # All ports of a Service, and both families, share its health-check node port; the best of them counts.
        checks = {
            port: max(found.values(), key=lambda check: check.local_endpoints) for port, found in self._wanted.items()
        }
        addresses: set[str] | None = set()
        for plan in plans:
            ips = plan.node.node_port_ips
            addresses = None if ips is None or addresses is None else addresses | set(ips)
        if (checks, addresses) != self._applied:
            self._applied = (checks, addresses)
            self._servers.sync(checks, addresses)


def health_check_response(check: HealthCheck, *, proxy_healthy: bool) -> Response:
    """Return kube-proxy's answer."""
    body = {
        "service": {"namespace": check.service.namespace, "name": check.service.name},
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": proxy_healthy,
    }
    return Response(
        200 if check.local_endpoints and proxy_healthy else 503,
        json.dumps(body, indent="\t"),
        "application/json",
        {"X-Load-Balancing-Endpoint-Weight": str(check.local_endpoints)},
        close=True,
    )
