"""The totals of one service port, made of counters that begin at zero again whenever a rule is rewritten.

What was read last is remembered beside the totals: a reading above it adds the difference, a reading below it is all
new, and what was not there the last time is all new, too. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from kproxy.backends.base import Counter, Of

_NONE: Mapping[str, int] = MappingProxyType({})


class Account:
    """One service port. There may be 30,000 of them, most of which never count: hence the slots, and no empty dicts."""

    __slots__ = ("connections", "dropped", "endpoint_readings", "endpoints", "readings", "rejected")

    def __init__(self) -> None:
        self.connections = 0
        self.rejected = 0
        self.dropped = 0
        self.endpoints: Mapping[str, int] = _NONE
        """Totals by ``ip:port``, also of endpoints that are gone and had been given something."""
        self.readings: Mapping[str, int] = _NONE
        """What was read last, by counter, where that is not 0."""
        self.endpoint_readings: Mapping[str, int] = _NONE
        """The same of endpoints' counters."""

    def take(self, counters: Sequence[Counter]) -> bool:
        """Take in a reading of all counters that are no endpoint's; return whether anything is different."""
        before, self.readings = self.readings, self._read(counters, self.readings)
        return self.readings != before

    def take_endpoints(self, counters: Sequence[Counter]) -> bool:
        """Take in a reading of all endpoints' counters; return whether anything is different."""
        before, self.endpoint_readings = self.endpoint_readings, self._read(counters, self.endpoint_readings)
        return self.endpoint_readings != before

    def begin(self, endpoints: Sequence[str]) -> None:
        """Have totals for endpoints, though nothing may have been given to them yet."""
        self.endpoints = {**dict.fromkeys(endpoints, 0), **self.endpoints}

    def end(self, counter: Counter) -> None:
        """Take in what a counter had counted when it went."""
        readings = dict(self.endpoint_readings if counter.endpoint else self.readings)
        before = readings.pop(counter.name, 0)
        self._add(counter, counter.packets - before if counter.packets >= before else counter.packets)
        if counter.endpoint:
            self.endpoint_readings = readings
        else:
            self.readings = readings

    def forget(self, endpoints: Collection[str]) -> None:
        """Forget some endpoints."""
        self.endpoints = {text: total for text, total in self.endpoints.items() if text not in endpoints} or _NONE

    def _read(self, counters: Sequence[Counter], before: Mapping[str, int]) -> Mapping[str, int]:
        now: dict[str, int] = {}
        for counter in counters:
            packets = counter.packets
            if packets:
                last = before.get(counter.name, 0)
                now[counter.name] = packets
                if packets != last:
                    self._add(counter, packets - last if packets > last else packets)
        return now or _NONE

    def _add(self, counter: Counter, grown: int) -> None:
        if not grown:
            return
        if counter.of is Of.REJECTED:
            self.rejected += grown
        elif counter.of is Of.DROPPED:
            self.dropped += grown
        elif counter.of is Of.CONNECTIONS:
            self.connections += grown
        if counter.endpoint:
            totals = self.endpoints if isinstance(self.endpoints, dict) else {}
            totals[counter.endpoint] = totals.get(counter.endpoint, 0) + grown
            self.endpoints = totals
