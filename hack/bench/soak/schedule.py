"""When what is done: things that come again after so many seconds, and things that come at a part of the whole time."""

import heapq
import itertools
import time
from collections.abc import Callable


class Schedule:
    """Calls functions when they are due, one after the other. What is late is done late, and never twice for that."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._began = clock()
        self._order = itertools.count()
        self._due: list[tuple[float, int, float, Callable[[], object]]] = []

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    def every(self, seconds: float, do: Callable[[], object]) -> None:
        """Do something again and again, first after so many seconds."""
        self._add(seconds, seconds, do)

    def at(self, seconds: float, do: Callable[[], object]) -> None:
        """Do something once."""
        self._add(seconds, 0.0, do)

    def _add(self, at: float, every: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._due, (at, next(self._order), every, do))

    def run(self, seconds: float) -> None:
        """Do all that is due until so many seconds after the beginning."""
        while self._due and self._due[0][0] <= seconds:
            at, _, every, do = heapq.heappop(self._due)
            if (wait := at - self.now) > 0:
                self._sleep(wait)
            do()
            if every:
                self._add(max(at + every, self.now), every, do)
        if (left := seconds - self.now) > 0:
            self._sleep(left)
