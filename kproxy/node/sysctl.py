"""The kernel settings that a service proxy depends on: conntrack's limits and time-outs, and route_localnet.

Which values, and when: as kube-proxy has it (pkg/proxy/conntrack/sysctls.go, pkg/proxy/iptables/proxier.go). Where a
value can't be set, kube-proxy exits; kproxy says which value is missing and goes on: in a container, as in every kind
node, /proc/sys is often read-only, some settings only exist outside, and services work without them. Nothing is written
where the value is right already, so that it can be set once by an init container, or by hand.
"""

import errno
import ipaddress
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kproxy.config import Config
from kproxy.config.schema import Conntrack
from kproxy.state.model import IPFamily

_CONNTRACK_MAX = "proc/sys/net/netfilter/nf_conntrack_max"
_HASH_SIZE = "sys/module/nf_conntrack/parameters/hashsize"
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


class Setting(NamedTuple):
    """One file under /proc or /sys and the number it should hold."""

    path: str
    """Without the leading slash."""
    value: int
    why: str
    at_least: bool = False
    """Whether a higher number will do, too."""
    passing: bool = False
    """Whether it opens or loosens something, and so goes back to what it was as soon as nothing asks for it any more.
    Limits and time-outs of conntrack stay: they harm nobody, and to lower them could cut connections."""

    @property
    def name(self) -> str:
        """The name that ``sysctl`` knows it by, or else the file's."""
        prefix = "proc/sys/"
        return self.path.removeprefix(prefix).replace("/", ".") if self.path.startswith(prefix) else f"/{self.path}"

    def satisfied_by(self, found: int) -> bool:
        """Whether this number will do."""
        return found == self.value or (self.at_least and found > self.value)


ROUTE_LOCALNET = Setting(
    "proc/sys/net/ipv4/conf/all/route_localnet",
    1,
    "so that node ports answer at 127.0.0.1 (or set iptables.localhostNodePorts to false)",
    passing=True,
)
TCP_BE_LIBERAL = Setting(
    "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
    1,
    "so that packets out of the TCP window are not called invalid",
    passing=True,
)
PASSING = (ROUTE_LOCALNET, TCP_BE_LIBERAL)
"""All settings that go back."""


class Outcome(NamedTuple):
    """What became of a setting. ``found`` is what was there before; None where it could not be read."""

    setting: Setting
    found: int | None
    written: bool = False
    problem: str = ""
    """Empty, or one line that says what could not be set, why, and the remedy."""
    missing_module: bool = False
    """Whether the setting is one of nf_conntrack's, and that is not loaded."""


def wanted(config: Config, cores: int) -> Iterator[Setting]:
    """Yield the settings that a configuration asks for, on a machine with so many CPU cores."""
    yield from _conntrack_limits(config.proxy.conntrack, cores)
    yield from _conntrack_timeouts(config.proxy.conntrack)
    if config.proxy.conntrack.tcp_be_liberal:
        yield TCP_BE_LIBERAL
    if wants_route_localnet(config):
        yield ROUTE_LOCALNET


def _netfilter(name: str, value: int, why: str, *, at_least: bool = False) -> Setting:
    return Setting(f"proc/sys/net/netfilter/nf_conntrack_{name}", value, why, at_least)


def _conntrack_limits(conntrack: Conntrack, cores: int) -> Iterator[Setting]:
    """The most connections to track is never lowered: other programs, or the administrator, may want more."""
    if conntrack.max_per_core <= 0:
        return
    limit = max(conntrack.min, conntrack.max_per_core * cores)
    why = "so that conntrack has room for all connections (or set conntrack.maxPerCore to 0)"
    yield _netfilter("max", limit, why, at_least=True)
    yield Setting(_HASH_SIZE, limit // 4, "so that conntrack finds connections fast at that limit", at_least=True)


def _conntrack_timeouts(conntrack: Conntrack) -> Iterator[Setting]:
    for name, duration, field in (
        ("tcp_timeout_established", conntrack.tcp_established_timeout, "tcpEstablishedTimeout"),
        ("tcp_timeout_close_wait", conntrack.tcp_close_wait_timeout, "tcpCloseWaitTimeout"),
        ("udp_timeout", conntrack.udp_timeout, "udpTimeout"),
        ("udp_timeout_stream", conntrack.udp_stream_timeout, "udpStreamTimeout"),
    ):
        if duration > 0:
            yield _netfilter(name, int(duration), f"as conntrack.{field} says (0s leaves it as it is)")


def wants_route_localnet(config: Config) -> bool:
    """Whether the kernel must route packets to 127.0.0.0/8 beyond the loopback interface.

    Only where node ports are to answer there. This opens 127.0.0.0/8 to neighbours on the network, which the rule in
    KUBE-FIREWALL closes again (CVE-2020-8558).
    """
    if not config.localhost_node_ports or config.node_ports_on_primary:
        return False
    cidrs = config.node_port_cidrs(IPFamily.IPV4)
    return not cidrs or any(_LOOPBACK.overlaps(ipaddress.IPv4Network(cidr)) for cidr in cidrs)


def apply(settings: Iterable[Setting], root: Path = Path("/")) -> list[Outcome]:
    """Write what is not right yet. Never raises: what could not be done is in the outcomes."""
    return [_apply(setting, root) for setting in settings]


def _apply(setting: Setting, root: Path) -> Outcome:
    path = root / setting.path
    found: int | None = None
    if "nf_conntrack" in setting.path and not (root / _CONNTRACK_MAX).exists():
        return Outcome(setting, None, problem=_without_module(setting), missing_module=True)
    try:
        found = int(path.read_text().split()[0])
        if setting.satisfied_by(found):
            return Outcome(setting, found)
        path.write_text(f"{setting.value}\n")
        if setting.satisfied_by(int(path.read_text().split()[0])):
            return Outcome(setting, found, written=True)
        reason = "the kernel took another value"
    except OSError as error:
        reason = _reason(error)
    except (ValueError, IndexError):
        reason = "it holds no number"
    return Outcome(setting, found, problem=_problem(setting, found, reason))


def read(setting: Setting, root: Path = Path("/")) -> int | None:
    """Return the number that a setting holds; None where it can't be read."""
    try:
        return int((root / setting.path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def put_back(setting: Setting, value: int, root: Path = Path("/")) -> str:
    """Write what a setting was before; return what went wrong, with the remedy, or an empty text."""
    try:
        (root / setting.path).write_text(f"{value}\n")
    except OSError as error:
        return (
            f"{setting.name} could not be put back to {value}: {_reason(error)}; "
            f"run on the node: sysctl -w {setting.name}={value}"
        )
    return ""


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such setting here"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "it is read-only here"
    return error.strerror or str(error)


def _without_module(setting: Setting) -> str:
    least = "at least " if setting.at_least else ""
    return (
        f"{setting.name} could not be read and could not be set to {least}{setting.value}, {setting.why}: "
        "there is no such setting here, as its module is not loaded; run on the node: modprobe nf_conntrack"
    )


def _problem(setting: Setting, found: int | None, reason: str) -> str:
    is_now = "could not be read" if found is None else f"is {found}"
    least = "at least " if setting.at_least else ""
    sysctl = not setting.name.startswith("/")
    remedy = f"sysctl -w {setting.name}={setting.value}" if sysctl else f"echo {setting.value} > {setting.name}"
    return (
        f"{setting.name} {is_now} and could not be set to {least}{setting.value}, {setting.why}: {reason}; "
        f"run on the node: {remedy}"
    )


def online_cores(root: Path = Path("/")) -> int:
    """Count the machine's CPU cores. A cpuset may confine kproxy to fewer, but conntrack's table is the machine's."""
    try:
        return max(1, _count_ranges((root / "sys/devices/system/cpu/online").read_text()))
    except (OSError, ValueError):
        return os.cpu_count() or 1


def _count_ranges(text: str) -> int:
    """Count the numbers in a list such as ``0-3,6``."""
    count = 0
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def set_oom_score_adj(value: int, root: Path = Path("/")) -> str:
    """Tell the kernel how ready to be to kill this process for memory; return what went wrong, or an empty text."""
    path = root / "proc/self/oom_score_adj"
    try:
        if int(path.read_text()) != value:
            path.write_text(f"{value}\n")
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "it holds no number"
        return f"oom_score_adj could not be set to {value}: {reason}; give CAP_SYS_RESOURCE, or set oomScoreAdj"
    return ""


def tcp_be_liberal(root: Path = Path("/")) -> bool:
    """Tell whether conntrack takes TCP packets out of window for valid ones."""
    try:
        return (root / "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal").read_text().strip() == "1"
    except OSError:
        return False
