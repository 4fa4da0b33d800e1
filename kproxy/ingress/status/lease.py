"""One of several replicas writes: the one that holds a Lease. Source: coordination/v1, client-go's leaderelection.

The holder renews the Lease; the others take it when it has not been renewed for its duration, as measured by their own
clocks from when they saw it change last: clocks of different machines are never compared. Whoever cannot renew it in
time stops writing before the others may begin.
"""

import datetime
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from kproxy import logs
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.failures import ApiError, RefusedError
from kproxy.api.types import ObjectKey
from kproxy.faults.undecodable import UNDECODABLE
from kproxy.wording import printable

DURATION_SECONDS = 15
"""For how long a Lease holds without being renewed."""
RENEW_SECONDS = 2.0
"""How often the holder renews it, and the others look at it."""
_MARGIN_SECONDS = 5.0
"""How long before the end the holder stops writing."""

_SENSELESS = (*UNDECODABLE, AttributeError, KeyError, TypeError, ValueError)
"""What comes of an answer that is no Lease."""

_log = logs.get("lease")


class Lease:
    """The right to write. `renew` is to be called every `RENEW_SECONDS`, by one thread."""

    def __init__(
        self, client: ApiClient, key: ObjectKey, identity: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{key.namespace}/leases"
        self._name = key.name
        self._identity = identity
        self._clock = clock
        self._renewed = -float("inf")
        self._seen: tuple[str, float] = ("", clock())
        """The version of somebody else's Lease, and since when it has been that one."""

    @property
    def held(self) -> bool:
        """Whether it is this one that may write, for some seconds to come."""
        return self._clock() < self._renewed + DURATION_SECONDS - _MARGIN_SECONDS

    def renew(self) -> bool:
        """Take or renew the Lease, if that may be; tell whether it is held. Nothing that goes wrong is raised."""
        before = self.held
        try:
            self._try()
        except ApiError as error:
            _log.warning("the Lease cannot be renewed", lease=self._name, error=error)
        except _SENSELESS as error:
            _log.warning("the Lease makes no sense", lease=self._name, error=printable(str(error)))
        if self.held != before:
            _log.info("this one writes now" if self.held else "another one writes now", lease=self._name)
        return self.held

    def release(self) -> None:
        """Let another one have it at once, on the way out."""
        if not self.held:
            return
        self._renewed = -float("inf")
        try:
            lease = self._get()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                self._put(lease, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except (ApiError, *_SENSELESS) as error:
            _log.warning("the Lease cannot be given back", lease=self._name, error=printable(str(error)))

    def _try(self) -> None:
        began = self._clock()
        lease = self._get()
        if lease is None:
            self._create()
        else:
            spec = lease["spec"]
            holder = spec.get("holderIdentity") or ""
            if holder != self._identity and not self._expired(lease, holder):
                self._renewed = -float("inf")
                return
            moved = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
            taken = {} if holder == self._identity else {"acquireTime": _now()}
            self._put(lease, {**taken, "leaseTransitions": moved} | self._mine())
        self._renewed = began

    def _expired(self, lease: dict[str, Any], holder: str) -> bool:
        version = str(lease["metadata"].get("resourceVersion"))
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        duration = int(lease["spec"].get("leaseDurationSeconds") or DURATION_SECONDS)
        return not holder or self._clock() > self._seen[1] + duration

    def _mine(self) -> dict[str, Any]:
        return {"holderIdentity": self._identity, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": _now()}

    def _get(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = msgspec.json.decode(self._client.get(f"{self._path}/{self._name}").read())
        except RefusedError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise
        found["spec"] = found.get("spec") or {}
        return found

    def _create(self) -> None:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {**self._mine(), "acquireTime": _now(), "leaseTransitions": 0},
        }
        self._client.post(self._path, msgspec.json.encode(lease))

    def _put(self, lease: dict[str, Any], spec: dict[str, Any]) -> None:
        """Write it; the version that was read stands in it, so that of two only one can."""
        changed = {**lease, "spec": {**lease["spec"], **spec}}
        self._client.put(f"{self._path}/{self._name}", msgspec.json.encode(changed))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
