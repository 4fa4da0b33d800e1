"""One kind of tables in the kernel, whoever wrote what is in them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from kproxy.backends.packet import Packet, World
from kproxy.backends.walk import Base
from kproxy.explain.compare import Line
from kproxy.explain.model import Difference, ElementFound
from kproxy.plan.model import Plan


class Part(Protocol):
    """Some tables. Methods may raise BackendError."""

    def close(self) -> None:
        """Let go of what reading them took."""

    def bases(self) -> Iterator[Base]:
        """Yield where netfilter enters them."""

    def has(self, table: str) -> bool:
        """Tell whether a table is among them."""

    def is_ours(self, table: str, chain: str) -> bool:
        """Tell whether a chain is kproxy's alone."""

    def lines(self, table: str, chain: str) -> Sequence[Line] | None:
        """Return a chain's rules; None if there is no such chain."""

    def elements(self) -> Iterator[ElementFound]:
        """Yield the elements of sets that walks have come to."""

    def policy(self, table: str, chain: str) -> str:
        """Return the policy of a base chain as text."""


class OwnPart(Part, Protocol):
    """The tables that kproxy writes to."""

    def differences(
        self, plan: Plan, packet: Packet, world: World, passed: Sequence[tuple[str, str, int]]
    ) -> Iterator[Difference]:
        """Yield what is too much and what is missing, in kproxy's chains on the packet's way.

        ``plan`` may hold nothing but the services concerned; ``passed`` are the rules that the packet did pass.
        """
