"""Noting what is wrong with an object while it is converted, and the checks that both converters share.

The API server validates what it stores, but not everything that reaches a proxy came through it (manifests, older
versions, bugs), and what does must not be able to break the rules of all other services. So nothing passes into
`ServicePort` and `Endpoint` that is not known to be sound: numbers are in range, addresses canonical, and every string
that can end up in a rule's comment or in a log line is a DNS label. What isn't becomes a `Problem`; the rest of the
object stays in force.
"""

import functools
import re
from collections.abc import Callable, Collection
from typing import TypeAlias

from kproxy.api.types import ObjectKey, Problem
from kproxy.state.addresses import NotAnAddress
from kproxy.state.model import IPFamily, Protocol
from kproxy.wording import quote, shown

Parse: TypeAlias = Callable[[str], tuple[IPFamily, str]]
"""Reads an address or prefix; raises `NotAnAddress`."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PROTOCOLS = {None: Protocol.TCP, "": Protocol.TCP, "TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


@functools.lru_cache(maxsize=256)
def is_label(text: str) -> bool:
    """Tell whether ``text`` is a DNS label (RFC 1123): what names of namespaces, Services and ports are.

    They come again and again: a namespace with all its Services, a Service in both address families.
    """
    return _LABEL.fullmatch(text) is not None


def is_port(number: int) -> bool:
    """Tell whether ``number`` can be the number of a port."""
    return 1 <= number <= 65_535


class Findings:
    """Collects the problems of one object while it is converted."""

    def __init__(self, kind: str, key: ObjectKey) -> None:
        self._kind = kind
        self.key = key
        self.problems: list[Problem] = []

    def add(self, field: str, reason: str) -> None:
        """Note that ``field`` was skipped."""
        self.problems.append(Problem(self._kind, self.key, field, reason))

    def address(self, field: str, text: str, parse: Parse, family: IPFamily) -> str | None:
        """Return an address in canonical form; None if it is unsound, which is noted, or of the other family."""
        try:
            its_family, canonical = parse(text)
        except NotAnAddress as error:
            self.add(field, f"{quote(text)}: {error}")
            return None
        return canonical if its_family is family else None

    def addresses(self, field: str, texts: Collection[str] | None, parse: Parse, family: IPFamily) -> tuple[str, ...]:
        """Return the addresses among ``texts`` that are sound and of ``family``, each once."""
        if not texts:
            return ()
        found: dict[str, None] = {}
        for index, text in enumerate(texts):
            address = self.address(f"{field}[{index}]", text, parse, family)
            if address:
                found[address] = None
        return tuple(found)

    def protocol(self, field: str, text: str | None) -> Protocol | None:
        """Return the protocol that ``text`` names, TCP where nothing is said; None where kproxy knows no such one."""
        if text not in _PROTOCOLS:
            self.add(f"{field}.protocol", f"{shown(text)} is not TCP, UDP or SCTP; the port is ignored")
            return None
        return _PROTOCOLS[text]

    def port(self, field: str, number: int) -> bool:
        """Tell whether ``number`` is a port, noting it where it isn't."""
        if not is_port(number):
            self.add(field, f"{number} is not in 1-65535; it is ignored")
            return False
        return True
