"""Keeps the totals of connections in a file, ``counters.json`` in the state directory, over a restart of kproxy.

Each line is a document: the first names the boot of the machine, the others tell of one service port each, and a later
one replaces an earlier one. So what a scrape has to write is what has moved since the one before; now and then the file
is made anew. A last line that is not whole was never shown to anybody, and is passed over.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from kproxy.faults.undecodable import UNDECODABLE
from kproxy.report.metrics.accounts import Account
from kproxy.report.metrics.counters import ConnectionCounters, Packets
from kproxy.state.model import IPFamily, Protocol, ServicePortName

_SLACK_BYTES = 1 << 20
"""A file that has grown by so much, and to the double of what it was, is made anew."""


class _Head(msgspec.Struct, frozen=True):
    boot: str


class _Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service port; without totals, it is gone. Without a name, the counters that are no service's."""

    family: IPFamily
    service: tuple[str, str, str, Protocol] | None = None
    totals: tuple[int, int, int] | None = None
    """Connections, rejected, dropped."""
    endpoints: Mapping[str, int] = {}
    readings: Mapping[str, int] = {}
    endpoint_readings: Mapping[str, int] = {}
    packets: Mapping[str, tuple[int, int]] = {}


class Store:
    """The file."""

    def __init__(self, directory: str | Path, root: Path = Path("/")) -> None:
        self._file = Path(directory) / "counters.json"
        self._boot_file = root / "proc/sys/kernel/random/boot_id"
        self._full_size = 0
        """Of the file when it was made anew; 0 if that is due."""
        self._size = 0
        self._packets: dict[IPFamily, dict[str, Packets]] = {}

    def load(self, counters: ConnectionCounters) -> None:
        """Go on from the totals in the file, if there are any of this boot.

        After a reboot they are of no use: the rules they go with are gone, and whoever scrapes sees a restart anyway.

        Raises OSError or ValueError, with a one-line text, where there is a file that can't be read.
        """
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return
        head, _, rest = data.partition(b"\n")
        try:
            if msgspec.json.decode(head, type=_Head).boot != self._boot():
                return
            decoder = msgspec.json.Decoder(_Row)
            rows = [decoder.decode(line) for line in rest.split(b"\n")[:-1]]
        except UNDECODABLE as error:
            raise ValueError(f"not a state of kproxy's counters: {error}") from None
        for row in rows:
            _restore(counters, row)
        for family in counters.families.values():
            family.held = sum(len(account.endpoints) for account in family.accounts.values())

    def save(self, counters: ConnectionCounters) -> None:
        """Write what is new, whole or not at all.

        Raises OSError where that can't be done.
        """
        due = not self._full_size or self._size > 2 * self._full_size + _SLACK_BYTES
        if due:
            self._full_size = 0
            self._write_anew(b"".join(self._lines(self._everything(counters))))
        elif new := b"".join(self._lines(self._news(counters))):
            full_size, self._full_size = self._full_size, 0  # due unless this goes well
            self._append(new)
            self._full_size = full_size
        for name, family in counters.families.items():
            family.unsaved.clear()
            self._packets[name] = dict(family.packets)

    def _everything(self, counters: ConnectionCounters) -> Iterator[_Row]:
        for family, name, account in counters.each_account():
            if account.connections or account.rejected or account.dropped:
                yield _row(family, name, account)
        yield from (_packets_row(family, its.packets) for family, its in counters.families.items() if its.packets)

    def _news(self, counters: ConnectionCounters) -> Iterator[_Row]:
        for family, its in counters.families.items():
            for name in its.unsaved:
                yield _row(family, name, its.accounts.get(name))
            if its.packets != self._packets.get(family, {}):
                yield _packets_row(family, its.packets)

    def _lines(self, rows: Iterable[_Row]) -> Iterator[bytes]:
        encode = msgspec.json.Encoder().encode
        return (encode(row) + b"\n" for row in rows)

    def _write_anew(self, rows: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(_Head(self._boot())) + b"\n" + rows)
        draft.replace(self._file)
        self._full_size = self._size = max(1, len(rows))

    def _append(self, rows: bytes) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)  # it must be there
        try:
            if os.write(descriptor, rows) != len(rows):
                raise OSError("the file could not be written to its end")
        finally:
            os.close(descriptor)
        self._size += len(rows)

    def _boot(self) -> str:
        return self._boot_file.read_text().strip()


def _row(family: IPFamily, name: ServicePortName, account: Account | None) -> _Row:
    if account is None:
        return _Row(family, (name.namespace, name.name, name.port, name.protocol))
    return _Row(
        family,
        (name.namespace, name.name, name.port, name.protocol),
        (account.connections, account.rejected, account.dropped),
        {endpoint: total for endpoint, total in account.endpoints.items() if total},
        dict(account.readings),
        dict(account.endpoint_readings),
    )


def _packets_row(family: IPFamily, packets: Mapping[str, Packets]) -> _Row:
    return _Row(family, packets={name: (its.total, its.last) for name, its in packets.items()})


def _restore(counters: ConnectionCounters, row: _Row) -> None:
    family = counters.families[row.family]
    if row.service is None:
        family.packets = {name: Packets(*its) for name, its in row.packets.items()}
        return
    name = ServicePortName(*row.service)
    if row.totals is None:
        family.accounts.pop(name, None)
        return
    account = family.accounts[name] = Account()
    account.connections, account.rejected, account.dropped = row.totals
    account.endpoints, account.readings = dict(row.endpoints), dict(row.readings)
    account.endpoint_readings = dict(row.endpoint_readings)
