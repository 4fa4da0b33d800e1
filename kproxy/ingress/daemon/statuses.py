"""What objects are told of themselves: from plans to the one who writes, if this replica is it."""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from kproxy.api.kinds import ObjectKind
from kproxy.api.transport.access import SERVICE_ACCOUNT
from kproxy.api.transport.client import ApiClient
from kproxy.api.types import ObjectKey
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.config.settings import Settings
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.world import World
from kproxy.ingress.status.doors import DoorSettings, addresses_of, denied, gateway_addresses, pending, superfluous
from kproxy.ingress.status.lease import Lease
from kproxy.ingress.status.reports import Applied, patches, told_here
from kproxy.ingress.status.writer import StatusWriter, Work, now

LEASE_NAME = "kproxy-ingress"
_OF_ENDPOINTS = frozenset({IngressKind.ENDPOINT_SLICE, IngressKind.SECRET, IngressKind.NAMESPACE})
"""Kinds whose changes alone change nothing of what objects are told, unless there are Gateways."""


def own_namespace(environ: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT) -> str:
    """Return the namespace that this program's pod is in; ``default`` outside a cluster."""
    try:
        found = (account / "namespace").read_text().strip()
    except OSError:
        found = ""
    return environ.get("POD_NAMESPACE") or found or "default"


def status_writer(client: ApiClient, settings: Settings) -> StatusWriter:
    """Return the one who writes, while it holds the Lease."""
    key = settings.lease or ObjectKey(own_namespace(), LEASE_NAME)
    return StatusWriter(client, Lease(client, key, f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"))


class ObjectReporter:
    """Works out what is to be written after each plan, and hands it over."""

    def __init__(self, settings: Settings, writer: StatusWriter) -> None:
        self._settings = settings
        self._writer = writer
        self._in_force: bool | None = None
        self._ours: frozenset[ObjectKey] = frozenset()
        """Ingresses that are or were served, and say so still."""

    def settled(
        self,
        world: World,
        planned: Planned,
        kinds: frozenset[ObjectKind],
        in_force: bool,
        refused: Mapping[RuleKey, str],
    ) -> None:
        """See `kproxy.ingress.report.reporter.SettledHook`."""
        unmoved = in_force == self._in_force
        self._in_force = in_force
        if unmoved and kinds <= _OF_ENDPOINTS and not planned.gateways.gateways:
            return
        doors = self._settings.doors
        addresses = self._settings.publish or service_addresses(world, doors)
        lacking = tuple(pending(world, planned, doors))
        applied = Applied(
            programmed=in_force,
            refused=refused,
            ingress_addresses=addresses,
            left=self._left(world, planned, addresses),
            gateway_addresses=gateway_addresses(world, doors),
            denied=denied(lacking, self._writer.denied),
        )
        self._writer.submit(
            Work(
                patches=tuple(patches(world, planned, self._settings.plan, applied, now())),
                doors=lacking,
                superfluous=tuple(superfluous(world, planned)),
            )
        )

    def _left(self, world: World, planned: Planned, addresses: Sequence[str]) -> frozenset[ObjectKey]:
        """Return the Ingresses that have left our classes, until their status no longer says what was said here."""
        served, known = planned.ingresses.served, world.ingresses
        left = frozenset(key for key in self._ours - served if key in known and told_here(known[key], addresses))
        self._ours = served | left
        return left


def service_addresses(world: World, doors: DoorSettings) -> tuple[str, ...]:
    """Return the addresses of the Service in front of this program."""
    service = world.services.get(doors.engine) if doors.engine is not None else None
    return () if service is None else addresses_of(service, doors)
