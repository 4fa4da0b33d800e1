"""Clients that never stop asking, and connections that last, while a test changes what is behind them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from hack.lab import Load, until
from hack.lab.clients import Connection
from tests.kit.packets import FAMILIES, PATIENCE, PORT, Exposed, World, address

PROTOCOLS = ("TCP", "UDP")
ENOUGH = 20
"""Requests of each kind to be seen in each phase."""


class Crowd:
    """Clients of every kind that never stop asking."""

    def __init__(self, loads: Mapping[str, Load], connections: Sequence[Connection] = ()) -> None:
        self.loads = loads
        self._connections = connections

    def ask_on(self, times: int = ENOUGH) -> None:
        """Return when each client has been answered so many more times, or one has failed."""
        counts = {name: len(load.tally.answers) for name, load in self.loads.items()}

        def done() -> bool:
            tallies = {name: load.tally for name, load in self.loads.items()}
            return any(tally.failures for tally in tallies.values()) or all(
                len(tally.answers) >= counts[name] + times for name, tally in tallies.items()
            )

        until(done, PATIENCE, "some more requests")
        self.assert_no_failure()

    @property
    def servers(self) -> set[str]:
        """Who has answered so far."""
        return {name for load in self.loads.values() for name in load.tally.servers}

    def assert_no_failure(self) -> None:
        """Check that all who asked so far were answered."""
        assert {name: load.tally.failures for name, load in self.loads.items() if load.tally.failures} == {}

    def assert_connections_last(self) -> None:
        """Check that those who have been connected all the time still are."""
        assert [connection.echo() for connection in self._connections] == [True] * len(self._connections)


@contextmanager
def crowd(world: World, shop: Exposed) -> Iterator[Crowd]:
    """Clients inside and outside; those outside come by a node port with policy Local."""
    loads = {
        f"{host.name}, {family}, {protocol}": host.load(ip, port, protocol, every=0.005)
        for family in FAMILIES
        for host, ip, port in (
            (world.lab.pod("asker"), shop.ip(family), PORT),
            (world.lab.client, address(world.lab.node, family), shop.node_port),
        )
        for protocol in PROTOCOLS
    }
    with ExitStack() as stack:
        for load in loads.values():
            stack.enter_context(load)
        yield Crowd(loads)


@contextmanager
def steady_crowd(world: World) -> Iterator[Crowd]:
    """A crowd at a Service that stays as it is, and connections to it from inside and outside that last."""
    pods = [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")]
    spec = {"externalTrafficPolicy": "Local"}
    steady = world.expose("steady", 22, pods, protocols=PROTOCOLS, type="NodePort", spec=spec)
    asker, client = world.lab.pod("asker"), world.lab.client
    with (
        crowd(world, steady) as clients,
        asker.connect(steady.ip("ipv4"), PORT) as inside,
        asker.connect(steady.ip("ipv6"), PORT) as inside6,
        client.connect(world.lab.node.ip, steady.node_port) as outside,
    ):
        yield Crowd(clients.loads, [inside, inside6, outside])
