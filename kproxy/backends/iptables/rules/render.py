"""Rules as text, in the spelling of iptables-save.

Used where people read (``kproxy render``), where the golden recordings are compared, and as the input of the
nft-variant's iptables-restore.
"""

import re
from collections.abc import Iterator

from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Chain,
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    GoOn,
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
    RuleSet,
    SetMark,
    SourceNat,
    State,
    Strange,
    Table,
    TableName,
    TargetTerm,
    Turn,
    Unjudged,
)
from kproxy.state.model import IPFamily, endpoint_text

BUILTIN_CHAINS = {
    TableName.FILTER: ("INPUT", "FORWARD", "OUTPUT"),
    TableName.NAT: ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}

_RECENT_MASK = {
    IPFamily.IPV4: "255.255.255.255",
    IPFamily.IPV6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
}
_ALL_BITS = 0xFFFFFFFF
_REJECT_WITH = {IPFamily.IPV4: "icmp-port-unreachable", IPFamily.IPV6: "icmp6-port-unreachable"}
_STATES = (  # in the order iptables-save prints them
    (ConnectionState.INVALID, "INVALID"),
    (ConnectionState.NEW, "NEW"),
    (ConnectionState.RELATED, "RELATED"),
    (ConnectionState.ESTABLISHED, "ESTABLISHED"),
    (ConnectionState.DNAT, "DNAT"),
)


def render_ruleset(ruleset: RuleSet, family: IPFamily) -> str:
    """Return both tables, filter then nat, as iptables-save prints them."""
    lines: list[str] = []
    for name in TableName:
        lines += [f"*{name}", *render_table(ruleset.table(name), name, family), "COMMIT"]
    return "\n".join(lines) + "\n"


def render_table(table: Table, name: TableName, family: IPFamily) -> Iterator[str]:
    """Yield a table's declarations and rules, chains in alphabetical order."""
    for builtin in BUILTIN_CHAINS[name]:
        yield f":{builtin} ACCEPT [0:0]"
    chains = sorted(table.chains)
    for chain in chains:
        yield f":{chain} - [0:0]"
    for builtin in BUILTIN_CHAINS[name]:
        hooks = tuple(hook.rule for hook in table.hooks if hook.builtin == builtin)
        yield from render_chain(builtin, hooks, family)
    for chain in chains:
        yield from render_chain(chain, table.chains[chain], family)


def render_chain(chain: str, rules: Chain, family: IPFamily) -> Iterator[str]:
    """Yield a chain's rules as commands that append them."""
    for rule in rules:
        yield f"-A {chain}{render_rule(rule, family)}"


def render_rule(rule: Rule, family: IPFamily) -> str:
    """Return a rule's options, each preceded by a blank."""
    parts = []
    if rule.source:
        parts.append(_prefix("-s", rule.source))
    if rule.destination:
        parts.append(_prefix("-d", rule.destination))
    if rule.in_interface:
        parts.append(f" {_not(rule.in_interface.inverted)}-i {rule.in_interface.name}")
    if rule.protocol:
        parts.append(f" -p {rule.protocol}")
    parts += [render_match(match, family) for match in rule.matches]
    if rule.target is not None:
        parts.append(render_target(rule.target, family))
    return "".join(parts)


def _not(inverted: bool) -> str:
    return "! " if inverted else ""


def _prefix(option: str, prefix: Prefix) -> str:
    return f" {_not(prefix.inverted)}{option} {prefix.cidr}"


def render_match(match: Match, family: IPFamily) -> str:  # noqa: C901 (one case for each kind of match)
    """Return one match, preceded by a blank."""
    match match:
        case Comment(text):
            return f" -m comment --comment {_quoted(text)}"
        case DestinationPort(protocol, 0, 65_535):
            return f" -m {protocol}"
        case DestinationPort(protocol, first, last):
            return f" -m {protocol} --dport {first if first == last else f'{first}:{last}'}"
        case State(states, is_inverted):
            names = ",".join(name for state, name in _STATES if state in states)
            return f" -m conntrack {_not(is_inverted)}--ctstate {names}"
        case LocalAddress(side, is_elsewhere):
            return f" -m addrtype {_not(is_elsewhere)}--{side}-type LOCAL"
        case Mark(value, bits, inverted):
            return f" -m mark {_not(inverted)}--mark {value:#x}{'' if bits == _ALL_BITS else f'/{bits:#x}'}"
        case Random(threshold):
            return f" -m statistic --mode random --probability {threshold / Random.ONE:.11f}"
        case Turn(every):
            return f" -m statistic --mode nth --every {every} --packet 0"
        case RecentCheck(name, seconds):
            mask = _RECENT_MASK[family]
            return f" -m recent --rcheck --seconds {seconds} --reap --name {name} --mask {mask} --rsource"
        case RecentSet(name):
            return f" -m recent --set --name {name} --mask {_RECENT_MASK[family]} --rsource"
        case Ports(ranges, is_not):
            listed = ",".join(str(first) if first == last else f"{first}:{last}" for first, last in ranges)
            return f" -m multiport {_not(is_not)}--dports {listed}"
        case Unjudged(text):
            return f" {text}"


_PLAIN = re.compile(r"[-_0-9A-Za-z]+")
_TO_ESCAPE = re.compile(r"""(["\\'])""")


def _quoted(text: str) -> str:
    """Quote as iptables-save does (xtables_save_string): only where needed, with backslashes before quotes."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + _TO_ESCAPE.sub(r"\\\1", text) + '"'


def render_target(target: TargetTerm, family: IPFamily) -> str:  # noqa: C901 (one case for each kind of target)
    """Return the target, preceded by a blank."""
    match target:
        case Jump(chain, goto):
            return f" {'-g' if goto else '-j'} {chain}"
        case Accept():
            return " -j ACCEPT"
        case Drop():
            return " -j DROP"
        case Return():
            return " -j RETURN"
        case Reject():
            return f" -j REJECT --reject-with {_REJECT_WITH[family]}"
        case SetMark(value, mask):
            return f" -j MARK --set-xmark {value:#x}/{mask:#x}"
        case MasqueradeSource():
            return " -j MASQUERADE --random-fully"
        case DestinationNat(ip, port):
            return f" -j DNAT --to-destination {endpoint_text(ip, port) if port else ip}"
        case Redirect(port):
            return " -j REDIRECT" + (f" --to-ports {port}" if port else "")
        case GoOn(text) | SourceNat(text) | Strange(text):
            return f" -j {text}"
