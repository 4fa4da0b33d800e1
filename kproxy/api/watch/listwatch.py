"""What to ask the API server for, to list and watch one kind of object: client-go's word for it is ListWatch.

It also learns what the server at hand can't do. Lists are streamed since v1.32 (KEP-3157) and Services selected by
clusterIP since v1.31; older servers refuse, and are asked in the older way from then on.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from typing import NamedTuple, Protocol

from kproxy.api.decode import DecodeError, Page, decode_page
from kproxy.api.kinds import Kind
from kproxy.api.selection import field_selector, label_selector
from kproxy.api.status import WatchStatus
from kproxy.api.transport.client import Answer
from kproxy.api.transport.failures import RefusedError, UnreachableError
from kproxy.api.types import ObjectKey
from kproxy.api.watch.backoff import FIRST_SECONDS, LAST_SECONDS
from kproxy.api.watch.history import Glimpse

PAGE_SIZE = 500
_PAGE_SECONDS = 300.0


class Timing(NamedTuple):
    """How patient to be with the API server. All in seconds."""

    idle: float = 90.0
    """A watch that brings no event and no bookmark for so long is dead. Servers send a bookmark each minute."""
    list_idle: float = 15.0
    """A streaming list that pauses for so long before it is complete is given up; pages are used then."""
    shortest_watch: float = 300.0
    longest_watch: float = 600.0
    """How long a watch is asked to last: a random time in between, so that nodes don't renew theirs in step."""
    too_short: float = 1.0
    """A watch that ends sooner, and brought nothing, is a failure."""
    absent: float = 600.0
    """How long to do without an optional kind that the server does not know, or does not let be seen."""
    first_retry: float = FIRST_SECONDS
    last_retry: float = LAST_SECONDS


class Client(Protocol):
    """What is needed of `kproxy.api.transport.client.ApiClient`."""

    def get(self, path: str, query: Mapping[str, str] | None = None, patience: float = ...) -> Answer:
        """Send a request; give up when nothing comes for ``patience`` seconds."""

    def distrust(self, server: str) -> None:
        """Begin with another server next time."""


class ListWatch:
    """The requests for the kind that ``status`` is of; what comes in answer to them is counted there."""

    def __init__(self, client: Client, node_name: str, timing: Timing, status: WatchStatus) -> None:
        kind = status.kind
        self.kind = kind
        self._status = status
        self.streams_lists = True
        self._client = client
        self._timing = timing
        self._label_selector = label_selector(kind)
        self._field_selector = field_selector(kind, node_name)

    def watch(self, place: str | None) -> Answer:
        """Watch from a resource version on; with None, beginning with everything that there is."""
        seconds = random.uniform(self._timing.shortest_watch, self._timing.longest_watch)  # noqa: S311 - no secret
        query = self._selectors | {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": f"{seconds:.0f}"}
        if place is None:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        else:
            query |= {"resourceVersion": place}
        return self._client.get(self.kind.path, query, self._timing.idle)

    def pages(self) -> Iterator[Page]:
        """List page by page. Raises `RefusedError` with 410 where that takes longer than the server remembers."""
        token = ""
        while True:
            query = self._selectors | {"limit": str(PAGE_SIZE)}
            page = self._page(query | {"continue": token} if token else query)
            yield page
            token = page.continue_token
            if not token:
                return

    def whole(self) -> Iterator[Page]:
        """List everything at once: dearer for the server, but there is nothing to expire."""
        yield self._page(self._selectors)

    def glimpse(self, key: ObjectKey | None) -> Glimpse:
        """Ask for the server's version, and for that of one object; by a list, as whoever may watch may list.

        Of a namespace's objects one by name is a single read for the server.
        """
        path, fields = self.kind.path, self._field_selector
        if key is not None:
            named = f"metadata.name={key.name}"
            fields = f"{named},{fields}" if fields and not fields.startswith("metadata.name=") else named
            path = self.kind.path_in(key.namespace)
        query = {"labelSelector": self._label_selector, "fieldSelector": fields, "limit": "1"}
        page = self._page({name: value for name, value in query.items() if value}, path)
        found = [obj.metadata.resource_version for obj in page.objects if obj.metadata.key == key]
        return Glimpse(page.resource_version, found[0] if found else None)

    def learn(self, error: RefusedError, place: str | None) -> bool:
        """See what the server can't do from its refusal; tell whether asking again, in another way, makes sense."""
        message = error.status.message if error.status else ""
        if error.code == HTTPStatus.BAD_REQUEST and "field label" in message and self.kind is not Kind.NODE:
            asked, self._field_selector = self._field_selector, ""
            return bool(asked)
        if error.code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY) and place is None:
            asked_to_stream, self.streams_lists = self.streams_lists, False
            return asked_to_stream
        return False

    @property
    def _selectors(self) -> dict[str, str]:
        selectors = {"labelSelector": self._label_selector, "fieldSelector": self._field_selector}
        return {name: selector for name, selector in selectors.items() if selector}

    def _page(self, query: Mapping[str, str], path: str = "") -> Page:
        deadline = time.monotonic() + _PAGE_SECONDS
        chunks = []
        with closing(self._client.get(path or self.kind.path, query, self._timing.idle)) as answer:
            for chunk in answer.chunks():
                chunks.append(chunk)
                self._status.bytes_received += len(chunk)
                if time.monotonic() > deadline:
                    raise UnreachableError(
                        f"API server {answer.server}: a page of {self.kind.resource} takes longer than"
                        f" {_PAGE_SECONDS:.0f} s",
                        silent=True,
                    )
        page = decode_page(self.kind, b"".join(chunks))
        if not page.resource_version:
            raise DecodeError(f"list of {self.kind.resource} without a resourceVersion")
        return page
