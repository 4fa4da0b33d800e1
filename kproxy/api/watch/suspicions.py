"""What a reflector remembers in order to notice that a watch, though it stands, no longer tells everything.

Two things make it suspicious. After a connection that broke, and once in the lifetime of a watch, the server is asked
whether its history is still the one that is known (see ``history``); that is one small request. And a watch that was
opened again must bring a bookmark in time: else the server may not have reached that place at all (see ``relists`` for
how soon a suspicion may cost a list).
"""

import time
from collections.abc import Collection
from http import HTTPStatus

from kproxy import logs
from kproxy.api.transport.failures import ApiError, RefusedError
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.api.watch.history import Glimpse, Seen, contradiction, is_missing, last_of
from kproxy.api.watch.relists import Due, Reason, Relists

_LATE = 0.05
"""Seconds to look after a list is due, and not just before."""

_log = logs.get("reflector")


class Suspicions:
    """Of one reflector, whose thread alone uses it. ``idle``: after how many seconds a watch counts as silent."""

    def __init__(self, idle: float, relists: Relists | None = None) -> None:
        self._idle = idle
        self._relists = relists or Relists(idle)
        self._seen: Seen | None = None
        self._missing: ObjectKey | None = None
        self._proved_at = time.monotonic()
        self.must_ask = False
        """Whether the server is to be asked about its history before the next watch."""

    @property
    def spread(self) -> float:
        """Over how many seconds the lists of a cluster's nodes are spread."""
        return self._relists.spread

    @property
    def object_to_ask_for(self) -> ObjectKey | None:
        """The object that changed last, as far as anybody has."""
        return None if self._seen is None else self._seen.key

    def listed(self, objects: Collection[ApiObject], size: int = 0) -> None:
        """Take note of a complete list of so many bytes; it ends all suspicion."""
        self._seen = last_of(objects)
        self._missing = None
        self.must_ask = False
        self._relists.listed(size)
        self.proved()

    def changed(self, key: ObjectKey, version: str, *, gone: bool) -> None:
        """Take note of a change that the watch brought."""
        self._seen = Seen(key, version, gone)
        if gone and key == self._missing:
            self._missing = None
            self._relists.withdraw(Reason.HISTORY)

    def proved(self) -> None:
        """Take note that the watch brought something, and so is in step."""
        self._proved_at = time.monotonic()

    def failed(self, error: ApiError, *, opened: bool) -> None:
        """Take note that a request came to nothing, or (``opened``) that a watch broke off."""
        self.must_ask = True
        if not opened and (not isinstance(error, RefusedError) or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR):
            self._relists.suspect(Reason.OUTAGE, f"it was away ({error})")

    def ended(self, *, resumed: bool) -> None:
        """Take note that a watch has ended, whichever way; ``resumed``: it had begun at a place reached before."""
        silent_for = time.monotonic() - self._proved_at
        if resumed and silent_for >= self._idle:
            text = f"watches that were opened again have brought nothing for {silent_for:.0f} s"
            self._relists.suspect(Reason.SILENCE, text)

    def answered(self, place: str, glimpse: Glimpse) -> None:
        """Judge what the server says of its history."""
        self.must_ask = False
        problem = contradiction(place, self._seen, glimpse)
        if problem is not None:
            _log.warning(
                "the API server's history is another than before: listing again, and comparing", reason=problem
            )
            self._relists.suspect(Reason.HISTORY, problem)
        elif self._seen is not None and is_missing(self._seen, glimpse):
            self._missing = self._seen.key
            self._relists.suspect(Reason.HISTORY, f"{self._missing} is gone without a word", watch_on=True)
        else:
            self.proved()

    def due(self) -> Due | None:
        """Return the list that is to be made now."""
        return self._relists.due()

    def pause(self) -> float:
        """Return how many seconds to wait for it, if it is about to be."""
        return self._relists.pause()

    def patience(self) -> float:
        """Return how many seconds a watch may be silent."""
        return self._relists.patience() + _LATE
