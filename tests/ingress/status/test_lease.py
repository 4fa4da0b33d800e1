"""One of several replicas writes: taking, renewing, losing and giving back a Lease, at a small API server."""

from pathlib import Path

import pytest

from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import ObjectKey
from kproxy.ingress.status.lease import DURATION_SECONDS, Lease
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status

KEY = ObjectKey("kproxy", "ingress-status")


class Replicas:
    """Leases of several replicas, by one clock that the test turns."""

    def __init__(self, server: ApiServer, kubeconfig: Path) -> None:
        self.server = server
        self.time = 1000.0
        self._client = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig))))

    def replica(self, name: str) -> Lease:
        return Lease(self._client, KEY, name, lambda: self.time)

    @property
    def spec(self) -> dict[str, object]:
        (lease,) = self.server.objects("leases")
        found: dict[str, object] = lease["spec"]
        return found


@pytest.fixture
def replicas(api_server: ApiServer, kubeconfig: Path) -> Replicas:
    return Replicas(api_server, kubeconfig)


def test_the_first_one_takes_it_and_keeps_it(replicas: Replicas) -> None:
    one, two = replicas.replica("one"), replicas.replica("two")
    assert not one.held
    assert one.renew()
    assert not two.renew()
    for _ in range(10):
        replicas.time += 2
        assert one.renew()
        assert not two.renew()
    assert replicas.spec["holderIdentity"] == "one"
    assert replicas.spec["leaseTransitions"] == 0


def test_another_takes_it_when_it_is_not_renewed_and_not_before(replicas: Replicas) -> None:
    one, two = replicas.replica("one"), replicas.replica("two")
    assert one.renew()
    assert not two.renew()
    replicas.time += DURATION_SECONDS - 1
    assert not two.renew()
    assert not one.held
    replicas.time += 2
    assert two.renew()
    assert not one.renew()
    assert replicas.spec["holderIdentity"] == "two"
    assert replicas.spec["leaseTransitions"] == 1


def test_whoever_cannot_renew_it_stops_before_others_may_begin(replicas: Replicas) -> None:
    one, two = replicas.replica("one"), replicas.replica("two")
    assert one.renew()
    assert not two.renew()
    replicas.server.faults.add(Status(503), resource="leases", times=None)
    for _ in range(DURATION_SECONDS):
        replicas.time += 1
        assert not (one.renew() and two.renew())
    assert not one.held


def test_a_lease_given_back_is_free_at_once(replicas: Replicas) -> None:
    one, two = replicas.replica("one"), replicas.replica("two")
    assert one.renew()
    assert not two.renew()
    one.release()
    assert not one.held
    assert two.renew()


def test_one_that_comes_again_under_its_name_goes_on(replicas: Replicas) -> None:
    assert replicas.replica("one").renew()
    assert replicas.replica("one").renew()
    assert replicas.spec["leaseTransitions"] == 0


@pytest.mark.parametrize("code", [403, 404, 409, 500])
def test_a_server_that_refuses(replicas: Replicas, code: int) -> None:
    replicas.server.faults.add(Status(code), resource="leases", times=None)
    one = replicas.replica("one")
    assert not one.renew()
    one.release()
    replicas.server.faults.clear()
    assert one.renew()


def put(replicas: Replicas, **more: object) -> None:
    metadata = {"name": KEY.name, "namespace": KEY.namespace}
    replicas.server.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, **more})


def test_a_lease_that_says_nothing_is_nobodys(replicas: Replicas) -> None:
    put(replicas)
    assert replicas.replica("one").renew()


@pytest.mark.parametrize(
    "spec",
    [["one"], "one", {"leaseTransitions": "many"}, {"holderIdentity": "two", "leaseDurationSeconds": "long"}],
    ids=["a list", "a word", "a count that is none", "a time that is none"],
)
def test_a_lease_that_makes_no_sense_is_left_alone(replicas: Replicas, spec: object) -> None:
    put(replicas, spec=spec)
    one = replicas.replica("one")
    assert not one.renew()
    assert replicas.spec == spec
    put(replicas)
    assert one.renew()
    put(replicas, spec=spec)
    one.release()
    assert not one.held
    assert replicas.spec == spec
