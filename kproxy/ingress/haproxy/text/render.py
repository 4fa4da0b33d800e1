"""Writes a configuration as the files that HAProxy reads."""

import re
from collections.abc import Mapping

from kproxy.ingress.haproxy.text.model import Configuration, CrtLine, Server, Slot

CONFIGURATION = "haproxy.cfg"
_SPEAKABLE = re.compile(r"[A-Za-z0-9/._:-]+")


def files(configuration: Configuration) -> Mapping[str, str]:
    """Return all files by their paths, which are relative to the configuration's folder."""
    found = {CONFIGURATION: text(configuration)}
    for name, entries in configuration.maps.items():
        found[f"maps/{name}"] = "".join(f"{entry(key, value)}\n" for key, value in entries.items())
    for path, lines in configuration.crt_lists.items():
        found[path] = "".join(f"{crt_line(line)}\n" for line in lines)
    return found | dict(configuration.certificates)


def text(configuration: Configuration) -> str:
    """Return the configuration file."""
    lines = list(configuration.head)
    for name, slot in configuration.slots.items():
        lines += section(name, slot)
    return "\n".join(lines) + "\n"


def section(name: str, slot: Slot) -> list[str]:
    """Return a slot as it stands in the configuration. Draining servers are left out: they get no new requests."""
    lines = [f"backend {name}"]
    names = [part for part in (slot.rule, slot.backend) if part]
    if names and all(map(_SPEAKABLE.fullmatch, names)):  # what the API server would not have let in stays out
        lines.append(f"    # {' to '.join(names)}")
    lines += [f"    {line}" for line in slot.lines]
    lines += [f"    server {server.name} {server_arguments(server)}" for server in slot.servers if not server.draining]
    return lines


def server_arguments(server: Server) -> str:
    """Return the arguments of a server, in the configuration or at the runtime socket."""
    return f"{server.address} weight 1{' proto h2' if server.h2 else ''}"


def entry(key: str, value: str) -> str:
    """Return an entry of a map, in a file or at the runtime socket."""
    return f"{key} {value}" if value else key


def crt_line(line: CrtLine) -> str:
    """Return a line of a crt-list."""
    return f"{line.path} {line.name}" if line.name else line.path
