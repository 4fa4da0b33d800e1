"""A network namespace: all that makes a machine, as far as packets can tell.

It has interfaces, addresses, routes, sockets and netfilter tables of its own, so each node, each pod and the client of
the lab is one. They carry names under /run/netns, where `ip netns` keeps them: while a lab runs, any of them can be
looked at with ``ip netns exec NAME …``.

A *socket* belongs to the namespace its thread was in when the socket was made, and stays there; a *process* starts in
the namespace of the thread that started it. Hence `Namespace.entered`: step in, make the socket, step out. One Python
process can so be the client outside and every pod at once, without starting a process for any of them.
"""

import ctypes
import ipaddress
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.lab.errors import LabError, run
from hack.lab.waiting import until

NETNS_FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # linux/sched.h
RTF_LOCAL = 0x80000000  # linux/ipv6_route.h

_libc = ctypes.CDLL(None, use_errno=True)


def _switch_thread(namespace_file: int) -> None:
    """setns(2): moves the calling thread, and no other, to the namespace behind an open file."""
    if _libc.setns(namespace_file, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


class Namespace:
    """One named network namespace. Making the object makes no namespace: see `create_all`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def path(self) -> Path:
        """The file that keeps the namespace alive and by which it can be entered."""
        return NETNS_FOLDER / self.name

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within this block the calling thread is in the namespace. Raises LabError if the namespace is gone."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise LabError(f"network namespace {self.name} does not exist (any more)") from None
            try:
                _switch_thread(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _switch_thread(home)
        finally:
            os.close(home)

    def ip(self, commands: Iterable[str], *options: str) -> None:
        """Carry out `ip` commands, given without the word ``ip``, in this namespace. One process does them all."""
        lines = list(commands)
        try:
            run(["ip", *options, "-n", self.name, "-batch", "-"], "\n".join(lines) + "\n")
        except LabError as error:
            number = re.search(r"Command failed -:(\d+)", str(error))
            at = f", at: ip {lines[int(number[1]) - 1]}" if number else ""
            raise LabError(f"{error}{at}") from None

    def sysctl(self, name: str, value: str | int) -> None:
        """Set ``net.…`` for this namespace alone: /proc/sys/net shows each thread the values of its own namespace."""
        with self.entered():
            Path("/proc/sys", *name.split(".")).write_text(f"{value}\n")


def await_addresses(addresses: Collection[str], timeout: float = 30.0) -> None:
    """Wait until packets to IPv6 addresses of the calling thread's namespace find their way to it. Raises LabError.

    An address can be bound to as soon as it is added with ``nodad``. But that it is local the kernel's routes say only
    when a worker has come to it (net/ipv6/addrconf.c: addrconf_dad_work), half a second later where the machine is
    busy; till then a packet to it is lost without a word. The interface must be up.
    """
    wanted = {ipaddress.IPv6Address(address).packed.hex() for address in addresses}
    until(lambda: wanted <= _local_addresses(), timeout, f"routes to {', '.join(addresses)}")


def _local_addresses() -> set[str]:
    routes = [line.split() for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines()]
    return {route[0] for route in routes if int(route[8], 16) & RTF_LOCAL}


def create_all(names: Iterable[str]) -> None:
    """Make namespaces. Each begins with nothing but a loopback interface, and that one down."""
    run(["ip", "-batch", "-"], "".join(f"netns add {name}\n" for name in names))


def existing(prefix: str) -> list[str]:
    """The names of all namespaces that begin with `prefix`, sorted."""
    if not NETNS_FOLDER.is_dir():
        return []
    return sorted(entry.name for entry in NETNS_FOLDER.iterdir() if entry.name.startswith(prefix))


def delete_all(names: Iterable[str]) -> None:
    """Remove namespaces by name; their interfaces, and the other ends of those, go with them.

    The kernel keeps the inside of one alive for as long as a process or an open socket is in it: end those first.
    """
    lines = "".join(f"netns delete {name}\n" for name in names)
    if lines:
        run(["ip", "-force", "-batch", "-"], lines)


def processes_in(names: Iterable[str]) -> list[int]:
    """Ids of the processes that live in any of the namespaces, this process left out."""
    inodes = {(NETNS_FOLDER / name).stat().st_ino for name in names}
    return [pid for pid in _all_pids() if pid != os.getpid() and _namespace_inode(pid) in inodes]


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _namespace_inode(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:  # it has ended meanwhile
        return None
