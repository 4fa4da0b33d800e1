"""The API server as a source of objects: one client, and a reflector in a thread of its own for each kind."""

import threading
import time
from collections.abc import Sequence

from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.sink import Sink
from kproxy.api.status import WatchStatus
from kproxy.api.transport.client import ApiClient
from kproxy.api.watch.listwatch import Timing
from kproxy.api.watch.reflector import Reflector

WATCHED = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE)
_STOP_SECONDS = 0.8


class ApiSource:
    """Feeds a sink from the API server. A `kproxy.api.sink.Source`; it can be started once.

    ``optional`` kinds may be unknown to the server or forbidden, and count as empty then.
    """

    def __init__(
        self,
        client: ApiClient,
        sink: Sink,
        node_name: str,
        kinds: Sequence[ObjectKind] = WATCHED,
        optional: Sequence[ObjectKind] = (),
        timing: Timing | None = None,
    ) -> None:
        self._client = client
        self._reflectors = [
            Reflector(kind, client, sink, node_name, timing or Timing(), optional=kind in optional)
            for kind in (*kinds, *optional)
        ]
        self._threads = [
            threading.Thread(target=reflector.run, name=f"reflector-{reflector.status.kind.resource}", daemon=True)
            for reflector in self._reflectors
        ]

    @property
    def statuses(self) -> Sequence[WatchStatus]:
        """One for each kind."""
        return tuple(reflector.status for reflector in self._reflectors)

    def start(self) -> None:
        """Begin to deliver; a server out of reach is tried again and again."""
        for thread in self._threads:
            thread.start()

    def refresh(self) -> None:
        """List everything again, and have it compared; often asked for, it is done once in ten seconds or so."""
        for reflector in self._reflectors:
            reflector.relist()

    def stop(self) -> None:
        """Deliver nothing more, and close the client. A thread that is just being refused an address may outlive it."""
        for reflector in self._reflectors:
            reflector.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            self._client.close()  # again, as long as there are threads: one may have been about to connect
            for thread in self._threads:
                thread.join(0.05)
        self._client.close()
