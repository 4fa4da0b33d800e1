"""How many files this process may have open, sockets included, and how many of them are kept in reserve.

systemd starts services with a soft limit of 1,024 and a hard one of half a million, for the sake of programs that use
select(2). Go raises the soft limit to the hard one when a program starts, so kube-proxy has never known the former; nor
does kproxy, which polls.
"""

import os
import resource
from pathlib import Path
from typing import NamedTuple

_FEWEST_RESERVED, _MOST_RESERVED = 24, 1024


class OpenFiles(NamedTuple):
    """A process' limit on open files, and how many it has."""

    limit: int
    used: int

    @property
    def reserve(self) -> int:
        """How many are kept for what matters more than listeners: watches, the kernel, clients, other programs."""
        return max(_FEWEST_RESERVED, min(self.limit // 4, _MOST_RESERVED))

    @property
    def spare(self) -> int:
        """How many more listeners may be opened."""
        return max(0, self.limit - self.used - self.reserve)

    @property
    def most_clients(self) -> int:
        """How many connections one kind of server may have at a time."""
        return max(4, self.reserve // 4)


def raise_open_files() -> str:
    """Raise the soft limit to the hard one; return what went wrong, or an empty text."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard or soft == resource.RLIM_INFINITY:
        return ""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        return f"the limit on open files stays at {soft}, and could not be raised to {hard}: {error}"
    return ""


def open_files(proc: Path = Path("/proc")) -> OpenFiles:
    """Look at this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = soft if soft != resource.RLIM_INFINITY else 1 << 30
    try:
        used = len(os.listdir(proc / "self/fd"))  # noqa: PTH208 - the quickest way to count
    except OSError:  # there is none left to count them with
        used = limit
    return OpenFiles(limit, used)
