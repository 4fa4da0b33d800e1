"""What kernel settings were before kproxy changed them, remembered over restarts.

A setting that kproxy raised for a mode goes back when that mode goes, and only a note can tell then that it was kproxy
that raised it. Notes are kept in `RUN_DIRECTORY`, where ``kproxy cleanup`` finds them without being told of a state
directory, or in that where the other can't be written; they are looked for in both. They are those of one network
namespace, as the settings are, and count for this boot of the machine: the next one sets everything anew.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kproxy.faults.undecodable import UNDECODABLE

RUN_DIRECTORY = Path("/run/kproxy")
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, since Linux 5.14
_COOKIE = struct.Struct("=Q")


class Found(msgspec.Struct, frozen=True):
    """What was there before kproxy."""

    value: int
    guarded: bool = False
    """Whether what the setting opens was closed again by a rule that was there before kproxy, too."""


class _Notes(msgspec.Struct, frozen=True):
    boot: str
    found: Mapping[str, Found]


class Notes:
    """The notes of the calling thread's network namespace, by the names of settings.

    What can't be read counts as nothing noted; what can't be written lasts as long as this object.
    """

    def __init__(self, directory: str | Path | None, root: Path = Path("/"), run: Path = RUN_DIRECTORY) -> None:
        """Read what there is. ``directory`` is the state directory, if there is one."""
        name = f"sysctls-{namespace_cookie(root):x}.json"
        self._boot = _read_text(root / "proc/sys/kernel/random/boot_id")
        self._files = tuple(dict.fromkeys(Path(place) / name for place in (run, directory) if place))
        self._found = next(filter(None, map(self._load, self._files)), {})

    def found(self, name: str) -> Found | None:
        """Return what a setting was before kproxy; None where nothing is known of it."""
        return self._found.get(name)

    def note(self, name: str, found: Found) -> None:
        """Keep what a setting was found at. Raises OSError where it can't be kept over a restart."""
        self._found[name] = found
        self._save()

    def forget(self, name: str) -> None:
        """Drop a note, for the setting is as it was again. Raises OSError where that can't be kept."""
        if self._found.pop(name, None) is not None:
            self._save()

    def _load(self, file: Path) -> dict[str, Found]:
        try:
            notes = msgspec.json.decode(file.read_bytes(), type=_Notes)
        except (OSError, *UNDECODABLE):
            return {}
        return dict(notes.found) if notes.boot == self._boot else {}

    def _save(self) -> None:
        """Write to the first place that can be written, and leave nothing in any other."""
        places = [file for file in self._files if _is_writable(file.parent)]
        if not places:
            raise OSError(errno.EROFS, f"neither {RUN_DIRECTORY} nor a state directory can be written")
        for file in places if not self._found else places[1:]:
            file.unlink(missing_ok=True)
        if self._found:
            draft = places[0].with_suffix(".new")
            draft.write_bytes(msgspec.json.encode(_Notes(self._boot, self._found)))
            draft.replace(places[0])


def _is_writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK)


def namespace_cookie(root: Path = Path("/")) -> int:
    """Return the number of the calling thread's network namespace: of this one alone, as long as the machine runs.

    Before Linux 5.14 the number of its inode, which may come again when it is gone.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            cookie: int = _COOKIE.unpack(asker.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE.size))[0]
            return cookie
    except (OSError, struct.error):
        return _inode(root / "proc/thread-self/ns/net")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
