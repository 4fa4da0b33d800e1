"""The API server as a source of everything the ingress program is made of. A `kproxy.api.sink.Source`."""

from collections.abc import Iterable, Sequence

from kproxy.api.sink import Sink
from kproxy.api.status import WatchStatus
from kproxy.api.transport.client import ApiClient
from kproxy.api.types import ObjectKey
from kproxy.api.watch.listwatch import Timing
from kproxy.api.watch.source import ApiSource
from kproxy.ingress.api.kinds import NEEDED, OPTIONAL, IngressKind
from kproxy.ingress.api.secrets import FETCH_SECONDS, NamedSecrets

TIMING = Timing(absent=60.0)
"""Gateway API may be installed any time: whether it is there is looked at each minute."""


class IngressSource:
    """Watches all kinds of `IngressKind`. Those that the server does not have count as empty, until it has them."""

    def __init__(
        self, client: ApiClient, sink: Sink, timing: Timing = TIMING, fetch_seconds: float = FETCH_SECONDS
    ) -> None:
        others = [kind for kind in OPTIONAL if kind is not IngressKind.SECRET]
        self._secrets = NamedSecrets(client, sink, fetch_seconds)
        self._objects = ApiSource(client, sink, "", NEEDED, others, timing)
        self._watch = ApiSource(client, self._secrets, "", (), (IngressKind.SECRET,), timing)

    @property
    def statuses(self) -> Sequence[WatchStatus]:
        """One for each kind."""
        return (*self._objects.statuses, *self._watch.statuses)

    @property
    def secrets_settled(self) -> bool:
        """Whether all that can be had of the Secrets that are named has been delivered."""
        return self._secrets.settled

    def start(self) -> None:
        """Begin to deliver; a server out of reach is tried again and again."""
        self._objects.start()
        self._watch.start()
        self._secrets.start()

    def refresh(self) -> None:
        """Read everything anew, soon, and hand it over to be compared."""
        self._objects.refresh()
        self._watch.refresh()

    def stop(self) -> None:
        """Deliver nothing more, and close the client."""
        self._secrets.stop()
        self._watch.stop()
        self._objects.stop()

    def name_secrets(self, keys: Iterable[ObjectKey]) -> None:
        """Say which Secrets are of use; no others are delivered."""
        self._secrets.name(keys)
