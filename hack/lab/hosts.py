"""The machines of the lab as a test sees them: hosts that serve, ask and run programs; among them nodes and pods."""

import functools
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from hack.lab import clients, kproxy, servers, topology
from hack.lab.addresses import Pair
from hack.lab.clients import Load
from hack.lab.errors import LabError
from hack.lab.namespaces import Namespace, await_addresses
from hack.lab.processes import REPOSITORY, Process, inside
from hack.lab.servers import Server, ServerThread

P = ParamSpec("P")
T = TypeVar("T")

IPTABLES = {"ipv4": "iptables", "ipv6": "ip6tables"}


class Seat(NamedTuple):
    """What the lab gives each host: a name, a namespace, its main addresses, a folder, and the thread for servers."""

    name: str
    namespace: Namespace
    address: Pair
    folder: Path
    thread: ServerThread


def _inside_the_host(function: Callable[P, T]) -> "Callable[Concatenate[Host, P], T]":
    """Make a method of a function: the sockets that it opens are the host's."""

    @functools.wraps(function, updated=())
    def method(host: "Host", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with host.namespace.entered():
            return function(*args, **kwargs)

    return method


class Host:
    """One machine: a namespace with addresses. `ip` and `ip6` are its main ones."""

    def __init__(self, seat: Seat) -> None:
        self.name = seat.name
        self.namespace = seat.namespace
        self.ip, self.ip6 = seat.address
        self.addresses = list(seat.address)
        self.processes: list[Process] = []
        self.servers: list[Server] = []
        self.xtables_lock = seat.folder / "xtables.lock"  # what its programs see as /run/xtables.lock
        self._folder = seat.folder
        self._folder.mkdir(exist_ok=True)  # a pod may have had its name before
        self.xtables_lock.touch(mode=0o600)
        self._thread = seat.thread

    # Answering.

    def serve(self, port: int, protocol: str = "TCP", name: str = "") -> Server:
        """Start a server on all of this host's addresses; it answers with the host's name, or with `name`."""
        server = Server(name or self.name, port, self._thread)
        with self.namespace.entered(), ExitStack() as on_failure:
            sockets = [
                on_failure.enter_context(servers.bound_socket(address, port, protocol)) for address in self.addresses
            ]
            on_failure.pop_all()
        server.listen(sockets, protocol)
        self.servers.append(server)
        return server

    def add_address(self, address: str) -> None:
        """Give eth0 one more address. Servers started afterwards listen on it too."""
        self.namespace.ip([topology.spare_address(f"{address}/{128 if ':' in address else 32}")])
        self.addresses.append(address)
        self.await_addresses()

    def await_addresses(self) -> None:
        """Wait until packets to all addresses of this host come to it."""
        with self.namespace.entered():
            await_addresses([address for address in self.addresses if ":" in address])

    # Asking. Arguments and results are those of the functions and classes of `clients`.

    ask = _inside_the_host(clients.ask)
    ask_many = _inside_the_host(clients.ask_many)
    connect = _inside_the_host(clients.Connection)
    flow = _inside_the_host(clients.Flow)

    def load(self, address: str, port: int, protocol: str = "TCP", *, every: float = 0.005) -> Load:
        """A client in a thread of its own that asks again `every` seconds after each answer."""
        return Load(lambda: self.ask(address, port, protocol), every)

    # Running programs.

    def run(self, command: Sequence[str], text: str = "", *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program on this host to its end. With `check`, a failure raises LabError in the program's words."""
        wrapped = inside(self.namespace.name, self.xtables_lock, command)
        done = subprocess.run(wrapped, input=text, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program on this host that keeps running, till the lab ends. `env` is added to the environment."""
        log_file = self._folder / f"{len(self.processes)}.log"
        wrapped = inside(self.namespace.name, self.xtables_lock, command)
        process = Process(command, wrapped, log_file, {**os.environ, **(env or {})})
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End all servers and programs of this host."""
        for server in self.servers:
            server.close()
        for process in self.processes:
            if process.exit_code is None:
                process.kill()


class Pod(Host):
    """A pod: a host behind a node's bridge."""

    def __init__(self, seat: Seat, node: "Node", port: str) -> None:
        super().__init__(seat)
        self.node = node
        self.port = port  # its veth on the node


class Node(Host):
    """A node: a host that has pods behind it and netfilter rules in it."""

    def __init__(self, seat: Seat, number: int, variant: str) -> None:
        super().__init__(seat)
        self.number = number  # from 1
        self._variant = variant

    def iptables_save(self, family: str = "ipv4", table: str = "") -> str:
        """The node's rules as iptables-save prints them, of one table or of all. `family` is ipv4 or ipv6."""
        option = ["-t", table] if table else []
        return self.run([f"{IPTABLES[family]}-{self._variant}-save", *option]).stdout

    def iptables_restore(self, text: str, family: str = "ipv4") -> None:
        """Load rules as iptables-restore reads them; what is there already stays."""
        self.run([f"{IPTABLES[family]}-{self._variant}-restore", "--noflush", "--wait"], text)

    def start_kproxy(
        self,
        *,
        manifests: Path | None = None,
        kubeconfig: Path | None = None,
        master: str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> kproxy.Kproxy:
        """Start ``kproxy run`` on this node. It may not be ready yet: see `Kproxy.wait_ready`."""
        source = kproxy.source_flags(manifests, kubeconfig, master)
        process = self.start(kproxy.run_command(self.name, self.ip, source, args), env)
        return kproxy.Kproxy(process, self.namespace, self.ip)

    def clean_up(self, *args: str) -> str:
        """Remove all rules of kproxy's from this node, by ``kproxy cleanup``; return what it logs."""
        return self.run(kproxy.cleanup_command(args)).stderr
