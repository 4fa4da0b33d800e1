"""Reads rules as iptables prints them: `render` backwards, for rules of any program.

What kproxy itself never writes is put into words as far as it matters for a packet's way; what is not known here
becomes `Unjudged` and `Strange`, with iptables' own text.
"""

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from kproxy.backends.iptables.rules.held import HeldRule
from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    GoOn,
    Interface,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Match,
    Ports,
    Prefix,
    Random,
    RecentCheck,
    RecentSet,
    Redirect,
    Reject,
    Return,
    Rule,
    SetMark,
    Side,
    SourceNat,
    State,
    Strange,
    TargetTerm,
    Turn,
    Unjudged,
)
from kproxy.state.model import IPFamily, Protocol

_ALL_BITS = 0xFFFFFFFF
_STATES = {state.name: state for state in ConnectionState}
_COUNTERS = re.compile(r" -c (\d+) (\d+)(?= |$)")
LEAVES_THE_WAY = frozenset({"LOG", "NFLOG", "TRACE", "ULOG", "AUDIT", "TCPMSS", "CONNMARK", "CHECKSUM", "CLASSIFY"})
"""Targets after which a packet goes on to the next rule, as it was in all that matters here."""

_ALONE = frozenset({"NOTRACK", "NFQUEUE", "QUEUE", "SYNPROXY", "TPROXY", "CT", "NETMAP", "TARPIT"})
"""Targets that may stand without an option, as only chains do otherwise."""
_FLAGS = frozenset({"FIN", "SYN", "RST", "PSH", "ACK", "URG"})


class _Option:
    """An option with its values, as in ``! --dports 80,443``."""

    def __init__(self, name: str, inverted: bool) -> None:
        self.name = name
        self.inverted = inverted
        self.values: list[str] = []

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""

    @property
    def text(self) -> str:
        return " ".join([*(["!"] if self.inverted else []), self.name, *self.values])


def parse_rule(line: str, family: IPFamily) -> HeldRule:
    """Return the rule that a line such as ``-A CHAIN … -c 0 0 -j TARGET`` is."""
    counted = _COUNTERS.search(line)
    packets, octets = (int(counted[1]), int(counted[2])) if counted else (0, 0)
    text = line[: counted.start()] + line[counted.end() :] if counted else line
    return HeldRule(_Reader(family).rule(text), packets, octets, text)


class _Reader:
    def __init__(self, family: IPFamily) -> None:
        self.family = family
        self.protocol: Protocol | None = None
        self.module = ""
        self.matches: list[Match] = []
        self.source: Prefix | None = None
        self.destination: Prefix | None = None
        self.interface: Interface | None = None
        self.target: TargetTerm | None = None
        self.recent: dict[str, str] = {}

    def rule(self, text: str) -> Rule:
        try:
            options = list(_options(shlex.split(text)))
        except ValueError:
            return Rule(target=Strange(text), matches=(Unjudged(text),))
        at = next((number for number, option in enumerate(options) if option.name in ("-j", "-g")), len(options))
        for option in options[:at]:
            self.take(option)
        self.finish_module()
        if at < len(options):
            self.target = self.read_target(options[at], options[at + 1 :])
        return Rule(
            target=self.target,
            source=self.source,
            destination=self.destination,
            in_interface=self.interface,
            protocol=self.protocol,
            matches=tuple(self.matches),
        )

    # --- matches ---------------------------------------------------------------------------------------------------

    def take(self, option: _Option) -> None:
        match option.name:
            case "-A":
                return
            case "-m":
                self.finish_module()
                self.module = option.value
            case "-p":
                self.take_protocol(option)
            case "-s":
                self.source = self.prefix(option)
            case "-d":
                self.destination = self.prefix(option)
            case "-i":
                self.interface = Interface(option.value, option.inverted)
            case name if name in _MATCHES:
                self.matches += _MATCHES[name](self, option)
            case name if self.module == "recent":
                self.recent[name] = option.value
            case _:
                self.matches.append(Unjudged(option.text))

    def finish_module(self) -> None:
        """Take up what has to be seen as a whole, now that all options of a match are known."""
        module, self.module = self.module, ""
        if module in set(Protocol) and not any(isinstance(one, (DestinationPort, Ports)) for one in self.matches):
            self.matches.append(DestinationPort(Protocol(module), 0, 65_535))
        elif module == "recent":
            recent, self.recent = self.recent, {}
            self.matches.append(_recent(recent))

    def take_protocol(self, option: _Option) -> None:
        if option.value in set(Protocol) and not option.inverted:
            self.protocol = Protocol(option.value)
        elif option.value != "all":
            self.matches.append(Unjudged(option.text))

    def prefix(self, option: _Option) -> Prefix | None:
        try:
            return Prefix(str(ipaddress.ip_network(option.value, strict=False)), option.inverted)
        except ValueError:
            self.matches.append(Unjudged(option.text))
            return None

    def ports(self, option: _Option) -> Iterator[Match]:
        ranges = tuple(_range(part) for part in option.value.split(","))
        if option.name == "--dport" and not option.inverted and self.module in set(Protocol):
            yield DestinationPort(Protocol(self.module), *ranges[0])
        else:
            yield Ports(ranges, option.inverted)

    # --- targets ---------------------------------------------------------------------------------------------------

    def read_target(self, jump: _Option, options: Sequence[_Option]) -> TargetTerm:
        name = jump.value
        said = {option.name: option.value for option in options}
        text = " ".join([name, *(option.text for option in options)])
        if name in _SIMPLE:
            return _SIMPLE[name]
        if name in LEAVES_THE_WAY:
            return GoOn(text)
        reader = _TARGETS.get(name)
        if reader is not None:
            return reader(said, text)
        return Strange(text) if options or name in _ALONE else Jump(name, goto=jump.name == "-g")


def _options(words: Sequence[str]) -> Iterator[_Option]:
    option: _Option | None = None
    inverted = False
    for word in words:
        if word == "!" and not (option is not None and option.name == "--comment" and not option.values):
            inverted = True
        elif word.startswith("-") and len(word) > 1 and not (option is not None and _takes_any(option)):
            if option is not None:
                yield option
            option, inverted = _Option(word, inverted), False
        elif option is not None:
            option.values.append(word)
    if option is not None:
        yield option


def _takes_any(option: _Option) -> bool:
    return option.name == "--comment" and not option.values


def _range(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    return int(first or 0), int(last or 65_535) if colon else int(first)


def _recent(said: Mapping[str, str]) -> Match:
    name = said.get("--name", "DEFAULT")
    if "--set" in said:
        return RecentSet(name)
    if "--rcheck" in said and "--hitcount" not in said:
        return RecentCheck(name, int(said.get("--seconds", "0")))
    return Unjudged(f"-m recent {' '.join(said)}")


def _comment(reader: _Reader, option: _Option) -> Iterator[Match]:
    del reader
    yield Comment(option.value)


def _state(reader: _Reader, option: _Option) -> Iterator[Match]:
    del reader
    known = ConnectionState(0)
    for name in option.value.split(","):
        if name not in _STATES:
            yield Unjudged(option.text)
            return
        known |= _STATES[name]
    yield State(known, option.inverted)


def _addrtype(reader: _Reader, option: _Option) -> Iterator[Match]:
    del reader
    side = Side.SOURCE if option.name == "--src-type" else Side.DESTINATION
    yield LocalAddress(side, option.inverted) if option.value == "LOCAL" else Unjudged(option.text)


def _tcp_flags(reader: _Reader, option: _Option) -> Iterator[Match]:
    """Judge by what opens a connection, which has SYN and nothing else."""
    del reader
    mask, wanted = (_flags(text) for text in [*option.values, "", ""][:2])
    if (mask & {"SYN"} == wanted) is option.inverted:
        yield Ports(())


def _flags(text: str) -> frozenset[str]:
    return _FLAGS if text == "ALL" else frozenset(text.split(",")) - {"NONE", ""}


def _mark(reader: _Reader, option: _Option) -> Iterator[Match]:
    del reader
    value, _, mask = option.value.partition("/")
    yield Mark(int(value, 0), int(mask, 0) if mask else _ALL_BITS, option.inverted)


def _mode(reader: _Reader, option: _Option) -> Iterator[Match]:
    del reader
    if option.value not in ("random", "nth"):
        yield Unjudged(option.text)


def _probability(reader: _Reader, option: _Option) -> Iterator[Match]:
    del reader
    threshold = round(float(option.value) * Random.ONE)
    yield Random(Random.ONE - threshold if option.inverted else threshold)


def _every(reader: _Reader, option: _Option) -> Iterator[Match]:
    del reader
    yield Unjudged(option.text) if option.inverted else Turn(int(option.value))


def _nothing(reader: _Reader, option: _Option) -> Iterator[Match]:
    """Leave out what says nothing of many connections: where a turn begins."""
    del reader, option
    return iter(())


_MATCHES: Mapping[str, Callable[[_Reader, _Option], Iterator[Match]]] = {
    "--comment": _comment,
    "--ctstate": _state,
    "--state": _state,
    "--src-type": _addrtype,
    "--dst-type": _addrtype,
    "--mark": _mark,
    "--mode": _mode,
    "--probability": _probability,
    "--tcp-flags": _tcp_flags,
    "--every": _every,
    "--packet": _nothing,
    "--dport": _Reader.ports,
    "--dports": _Reader.ports,
    "--ports": _Reader.ports,
}


def _destination_nat(said: Mapping[str, str], text: str) -> TargetTerm:
    to = said.get("--to-destination", "")
    host, colon, port = to.rpartition(":")
    if to.startswith("[") or (colon and ":" not in host):
        ip, number = host.strip("[]"), port
    else:
        ip, number = to, "0"
    if not number.isdecimal() or "-" in ip:
        return Strange(text)
    try:
        return DestinationNat(str(ipaddress.ip_address(ip)), int(number))
    except ValueError:
        return Strange(text)


def _set_mark(said: Mapping[str, str], text: str) -> TargetTerm:
    value, _, mask = said.get("--set-xmark", "").partition("/")
    return SetMark(int(value, 0), int(mask, 0) if mask else _ALL_BITS) if value else Strange(text)


def _redirect(said: Mapping[str, str], text: str) -> TargetTerm:
    port = said.get("--to-ports", "0")
    return Redirect(int(port)) if port.isdecimal() else Strange(text)


_SIMPLE: Mapping[str, TargetTerm] = {"ACCEPT": Accept(), "DROP": Drop(), "RETURN": Return()}
_TARGETS: Mapping[str, Callable[[Mapping[str, str], str], TargetTerm]] = {
    "DNAT": _destination_nat,
    "MARK": _set_mark,
    "REDIRECT": _redirect,
    "MASQUERADE": lambda *_: MasqueradeSource(),
    "SNAT": lambda _, text: SourceNat(text),
    "REJECT": lambda *_: Reject(),
    "NETMAP": lambda _, text: Strange(text),
    "TPROXY": lambda _, text: Strange(text),
    "NFQUEUE": lambda _, text: Strange(text),
}
