"""Reads what iptables-save prints of a rule, as far as it takes to tell rules apart.

Spelling differs between releases of iptables: options come in another order, a match that says nothing is dropped.
Two texts with the same canonical form are the same rule.
"""

import ipaddress
import re
import shlex

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LONGEST = 4096
"""Characters of one rule; a comment has 255 bytes. A quote that is open for longer is part of a name."""
_TARGET = re.compile(r" -[jg] (\S+)")
_ADDRESS_OPTIONS = {"-s", "-d"}
_TAKES_ANY_WORD = {"--comment"}


def lines_of(saved: str) -> list[str]:
    """Return the lines of what iptables-save prints; what others' comments hold within their quotes ends none."""
    lines: list[str] = []
    begun: list[str] = []
    for line in saved.removesuffix("\n").split("\n") if saved else ():
        if not begun and ('"' not in line or not _is_open(line)):
            lines.append(line)
            continue
        begun.append(line)
        if not _is_open(whole := "\n".join(begun)):
            lines.append(whole)
            begun = []
        elif len(whole) > _LONGEST:
            lines += begun
            begun = []
    return lines + begun


def _is_open(text: str) -> bool:
    return '"' in _QUOTED.sub("", text)


def target_of(rule: str) -> str:
    """Return the name of the chain, verdict or extension that a rule leads to; empty if none."""
    found = _TARGET.search(_QUOTED.sub('""', rule) if '"' in rule else rule)
    return found[1] if found else ""


def canonical(rule: str) -> tuple[tuple[str, ...], ...]:
    """Return a rule's options with their values, in an order of our own."""
    options: list[list[str]] = []
    inverted = False
    try:
        words = iter(shlex.split(rule))
    except ValueError:  # a stranger's, cut short
        return ((rule,),)
    for word in words:
        if word == "!":
            inverted = True
        elif word in _TAKES_ANY_WORD:
            options.append([word, next(words, "")])
        elif word.startswith("-"):
            options.append(["!", word] if inverted else [word])
            inverted = False
        elif options:
            options[-1].append(_canonical_address(word) if options[-1][-1] in _ADDRESS_OPTIONS else word)
    return tuple(sorted(tuple(option) for option in options if option[0] != "-m"))


def _canonical_address(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return text
