"""What a full sync would change now: the document that ``kproxy diff -o json`` prints. Fields are only ever added."""

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is printed."""


class Change(Model, frozen=True, kw_only=True):
    """What would change in one chain, or in one set, for one Service."""

    service: str | None = None
    """The service port; null for what all have in common, or where it can't be told."""
    table: str
    chain: str
    """The chain; in mode nftables also the set or map."""
    lines: tuple[str, ...]
    """As in a unified diff: what goes after a minus, what comes after a plus, what stays after a blank."""


class FamilyChanges(Model, frozen=True, kw_only=True):
    """What would change in one address family."""

    family: str
    changes: tuple[Change, ...] = ()
    error: str | None = None
    """Why the kernel's rules can't be read."""

    @property
    def coming(self) -> int:
        """How many rules and elements would come."""
        return _count(self.changes, "+")

    @property
    def going(self) -> int:
        """How many rules and elements would go."""
        return _count(self.changes, "-")


class Changes(Model, frozen=True, kw_only=True):
    """What would change."""

    mode: str
    """iptables or nftables."""
    families: tuple[FamilyChanges, ...]


def _count(changes: tuple[Change, ...], sign: str) -> int:
    return sum(line.startswith(sign) for change in changes for line in change.lines)
