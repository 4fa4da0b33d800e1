"""Runs iptables' own programs, in the network namespace the caller is in."""

import re
import subprocess

from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import IPFamily
from tests.kit.netns import need

_PREFIX = {IPFamily.IPV4: "iptables", IPFamily.IPV6: "ip6tables"}
_PLACE = re.compile(r"(--mode nth --every \d+ --packet) \d+")
_COUNTERS = re.compile(r"\[\d+:\d+\]")


def program(family: IPFamily, variant: str, suffix: str = "") -> str:
    """Name one of iptables' programs, such as ip6tables-nft-save."""
    name = f"{_PREFIX[family]}-{variant}{suffix}"
    need(name)
    return name


def run(family: IPFamily, variant: str, arguments: str) -> None:
    """Run one iptables command, given its options separated by blanks."""
    subprocess.run([program(family, variant), *arguments.split()], check=True)


def restore(family: IPFamily, variant: str, text: str, *options: str) -> None:
    """Add to the tables what the text says, keeping all else."""
    subprocess.run([program(family, variant, "-restore"), "--noflush", *options], input=text, text=True, check=True)


def saved(family: IPFamily, variant: str, table: TableName, *, counters: bool = False) -> list[str]:
    """Return one table's chains and rules as the listing tool prints them, without its remarks.

    Counters are zeroed unless asked for; turns are listed as if they began with the first time, see `Turn`.
    """
    command = [program(family, variant, "-save"), "-t", table]
    if counters:
        command.append("-c")
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [_PLACE.sub(r"\1 0", line) for line in output.splitlines() if line and not line.startswith("#")]
    return lines if counters else [_COUNTERS.sub("[0:0]", line) for line in lines]
