"""A configuration of HAProxy as data: what stands in its file, and what can be changed while it runs.

A *slot* is a backend section with a name of ours (``b17``). One that no rule needs yet is a *spare*: a new rule without
filters takes it by servers and map entries alone, so that no reload is needed. *Words* are what maps lead to:

    b17   this slot          w…   a draw between slots, by weight
    e404  no such route      g…   a group of matches that the path does not decide, tried in order
    e500  no valid backend

Everything that words stand for is named by a digest of its content. So entries of these maps are written once and never
changed, and the one entry that leads a host to its table (``h…``) is switched at once.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

NO_ROUTE = "e404"
NO_BACKEND = "e500"

EXACT, PREFIX, CONDITIONS, WEIGHTS, DRAWS = "exact", "prefix", "conditions", "weights", "draws"
LEAVES = (EXACT, PREFIX, CONDITIONS, WEIGHTS, DRAWS)
"""The maps whose entries are only ever added and removed."""
PORTS, TRUSTED = "ports", "trusted"
EXPORTER, EXPORTER_SOCKET = "exporter", "exporter.sock"
"""The frontend of HAProxy's own exporter, and where in the state folder it listens."""


class Server(NamedTuple):
    """An endpoint in a slot."""

    name: str
    address: str
    """``ip:port``, as HAProxy writes it."""
    h2: bool = False
    draining: bool = False


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A backend section."""

    rule: str = ""
    """The rule it serves, as the plan writes its key; empty for a spare."""
    backend: str = ""
    """The Service's port; empty where there is none, as for a redirect."""
    lines: tuple[str, ...] = ()
    """What stands in the section beside servers: only a reload changes it."""
    servers: tuple[Server, ...] = ()


class CrtLine(NamedTuple):
    """A certificate for a server name; the name is empty for a default certificate."""

    path: str
    name: str = ""


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Everything HAProxy is told."""

    head: tuple[str, ...]
    """Lines of all sections but slots."""
    slots: Mapping[str, Slot]
    """By name: ``b1`` and so on, without a gap."""
    maps: Mapping[str, Mapping[str, str]]
    """By name; keys are in order of precedence where that matters."""
    host_maps: tuple[str, ...] = ()
    """The maps whose entries may be changed."""
    certificates: Mapping[str, str] = {}
    """PEM, by path."""
    crt_lists: Mapping[str, tuple[CrtLine, ...]] = {}
    memory: "Memory"


class Memory(msgspec.Struct, frozen=True):
    """What the next configuration has to know of this one, so that little changes."""

    slots: Mapping[str, str] = {}
    """The slot of each use: a rule with a backend."""
    size: int = 0
    """How many slots there are."""
    used: frozenset[str] = frozenset()
    """Slots that have served since the last reload: their counters are not at zero, so no other rule may have them."""
    features: frozenset[str] = frozenset()
    """What frontends must be able to do. Grows only, lest HAProxy is reloaded back and forth."""


NOTHING = Memory()
