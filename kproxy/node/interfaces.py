"""The addresses on the node's interfaces, as /proc tells them.

Needed only where nodePortAddresses names prefixes; asked for often, hence no netlink dump and no library for one.
"""

import ipaddress
import re
from pathlib import Path

_LOCAL_HOST = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def addresses(proc_net: Path = Path("/proc/net")) -> tuple[str, ...]:
    """Return every local address, of both families. What cannot be read counts as none."""
    v4 = set(_LOCAL_HOST.findall(_read(proc_net / "fib_trie")))
    v6 = {line.split()[0] for line in _read(proc_net / "if_inet6").splitlines()}
    return (*sorted(v4), *sorted(str(ipaddress.IPv6Address(bytes.fromhex(digits))) for digits in v6))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
