"""What the commands beside the daemon take on their command lines, besides the flags of the configuration.

Values that make no sense are said by argparse in one line, with the option's name.
"""

import argparse
import ipaddress

from kproxy.explain.question import FORMS
from kproxy.state.model import IPFamily, Protocol
from kproxy.tools.objects import Sources
from kproxy.wording import quote


def add_render_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``kproxy render`` takes."""
    group = parser.add_argument_group("what to render")
    _add_sources(group)
    group.add_argument(
        "--family",
        type=_families,
        default=(IPFamily.IPV4,),
        metavar="FAMILY",
        help="whose tables to print: ipv4 (the default), ipv6, or all: each after a line '# ipv4' or '# ipv6'",
    )


def add_explain_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``kproxy explain`` takes."""
    parser.add_argument("destination", metavar="DESTINATION", nargs="?", help=FORMS)
    group = parser.add_argument_group("what to explain")
    group.add_argument(
        "--from",
        dest="sender",
        default="pod",
        metavar="pod|node|outside|IP",
        help="who connects (default: a pod of this node)",
    )
    group.add_argument(
        "--protocol",
        default="",
        metavar="|".join(Protocol),
        help="by what protocol (default: what the Service's port says, else tcp)",
    )
    group.add_argument("--family", type=_family, default=None, metavar="ipv4|ipv6", help="of a Service's two")
    _add_output(group)
    _add_sources(group, " (default: the kproxy that runs on this node is asked)")


def add_diff_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``kproxy diff`` takes."""
    group = parser.add_argument_group("what to compare")
    group.add_argument("--family", type=_family, default=None, metavar="ipv4|ipv6", help="one of the two alone")
    _add_output(group)
    _add_sources(group, " (default: the kproxy that runs on this node is asked)")


def add_status_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``kproxy status`` takes."""
    group = parser.add_argument_group("what to show")
    group.add_argument(
        "--watch", type=_seconds, nargs="?", const=2.0, metavar="SECONDS", help="show it again and again (every 2 s)"
    )
    group.add_argument(
        "--node", default="", metavar="ADDRESS", help="ask another node, by its metrics and health ports"
    )
    _add_output(group)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{quote(text)} is no number of seconds from 0.1 to 3600")
    return seconds


def _add_output(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("-o", dest="output", type=_output, default="text", metavar="text|json", help="the format")


def _add_sources(group: "argparse._ArgumentGroup", otherwise: str = "") -> None:
    group.add_argument(
        "-f",
        dest="files",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help=f"a manifest, or a folder of them; - for stdin{otherwise}",
    )
    group.add_argument(
        "--node-ip",
        type=_ips,
        default=(),
        metavar="IP[,IP]",
        help="the node's addresses (default: what the Node object reports)",
    )
    group.add_argument(
        "--interface-address",
        type=_interface_address,
        action="append",
        metavar="CIDR",
        help="an address of the node's interfaces, for nodePortAddresses; repeatable (default: the node's addresses)",
    )


def _family(text: str) -> str:
    if text not in tuple(IPFamily):
        raise argparse.ArgumentTypeError(f"{quote(text)} is neither ipv4 nor ipv6")
    return text


def _output(text: str) -> str:
    if text not in ("text", "json"):
        raise argparse.ArgumentTypeError(f"{quote(text)} is neither text nor json")
    return text


def _families(text: str) -> tuple[IPFamily, ...]:
    if text == "all":
        return tuple(IPFamily)
    if text not in tuple(IPFamily):
        raise argparse.ArgumentTypeError(f"{quote(text)} is none of ipv4, ipv6 and all")
    return (IPFamily(text),)


def _ips(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_address(part.strip())) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{quote(text)} is not what is expected: one address of each family, separated by a comma"
        ) from None


def _interface_address(text: str) -> str:
    try:
        return str(ipaddress.ip_interface(text).ip)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{quote(text)} is not an address such as 10.0.0.1/24") from None


def sources(options: argparse.Namespace) -> Sources:
    """Return the files that were named, and what was said of the node they are read for."""
    return Sources(
        files=tuple(options.files),
        node_ips=options.node_ip,
        interface_addresses=tuple(options.interface_address) if options.interface_address else None,
    )
