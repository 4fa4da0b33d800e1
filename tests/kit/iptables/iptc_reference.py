"""Builds rules from python-iptables' own objects and prints their bytes: the reference for the encoder's tests.

A process of its own for each family, because libxtables registers an extension that serves both families (DNAT,
MASQUERADE) for the first one only. Reads a rule as JSON from each line of stdin, writes its entry as a line of hex.
"""

import sys
import warnings
from typing import Any

import msgspec

from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Match,
    Prefix,
    Random,
    RecentCheck,
    RecentSet,
    Reject,
    Return,
    Rule,
    SetMark,
    State,
    Turn,
)
from kproxy.state.model import IPFamily

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import iptc


def set_options(module: Any, **options: str) -> None:
    for name, value in options.items():
        module.set_parameter(name, value)  # some names, as "name", are taken as attributes


def not_(inverted: bool, value: str) -> str:
    return f"!{value}" if inverted else value


def add_match(reference: Any, match: Match) -> None:  # noqa: C901 (one case for each kind of match)
    match match:
        case Comment(text):
            set_options(reference.create_match("comment"), comment=text)
        case DestinationPort(protocol, first, last):
            module = reference.create_match(str(protocol))
            if (first, last) != (0, 65_535):
                set_options(module, dport=f"{first}:{last}")
        case State(states, inverted):
            value = ",".join(state.name or "" for state in ConnectionState if state in states)
            set_options(reference.create_match("conntrack"), ctstate=not_(inverted, value))
        case LocalAddress(side):
            set_options(reference.create_match("addrtype"), **{f"{side}_type": "LOCAL"})
        case Mark(value, mask, inverted):
            set_options(reference.create_match("mark"), mark=not_(inverted, f"{value:#x}/{mask:#x}"))
        case Random(threshold):
            module = reference.create_match("statistic")
            set_options(module, mode="random", probability=f"{threshold / 2**31:.17f}")
            module.final_check()  # derives a count
        case Turn(every):
            module = reference.create_match("statistic")
            set_options(module, mode="nth", every=str(every), packet="0")
            module.final_check()  # derives a count
        case RecentCheck(name, seconds):
            options = {"rcheck": "", "seconds": str(seconds), "reap": "", "name": name, "rsource": ""}
            set_options(reference.create_match("recent"), **options)
        case RecentSet(name):
            module = reference.create_match("recent")
            set_options(module, set="", name=name, rsource="")


def add_target(reference: Any, rule: Rule, family: IPFamily) -> None:
    match rule.target:
        case Jump(chain, goto):
            reference.create_target(chain, goto=goto)
        case Accept() | Drop() | Return():
            reference.create_target(type(rule.target).__name__.upper())
        case Reject():
            kind = "icmp-port-unreachable" if family is IPFamily.IPV4 else "icmp6-port-unreachable"
            set_options(reference.create_target("REJECT"), reject_with=kind)
        case SetMark(value, mask):
            set_options(reference.create_target("MARK"), set_xmark=f"{value:#x}/{mask:#x}")
        case MasqueradeSource():
            set_options(reference.create_target("MASQUERADE"), random_fully="")
            reference.target.final_check()  # sets the number of ranges
        case DestinationNat(ip, port):
            place = f"{ip}:{port}" if family is IPFamily.IPV4 else f"[{ip}]:{port}"
            set_options(reference.create_target("DNAT"), to_destination=place)
        case None:
            reference.create_target("")


def cidr(prefix: Prefix) -> str:
    return not_(prefix.inverted, prefix.cidr)


def reference_bytes(rule: Rule, family: IPFamily) -> bytes:
    reference = iptc.Rule() if family is IPFamily.IPV4 else iptc.Rule6()
    if rule.source:
        reference.src = cidr(rule.source)
    if rule.destination:
        reference.dst = cidr(rule.destination)
    if rule.in_interface:
        reference.in_interface = not_(rule.in_interface.inverted, rule.in_interface.name)
    if rule.protocol:
        reference.protocol = str(rule.protocol)
    for match in rule.matches:
        add_match(reference, match)
    add_target(reference, rule, family)
    return bytes(reference.rule)


def main(family: IPFamily) -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        rule = msgspec.json.decode(line, type=Rule)
        print(reference_bytes(rule, family).hex(), flush=True)


if __name__ == "__main__":
    main(IPFamily(sys.argv[1]))
