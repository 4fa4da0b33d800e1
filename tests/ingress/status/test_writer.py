"""Writing statuses and Services at a small API server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import ObjectKey
from kproxy.faults.containment import counts
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.status.doors import Door
from kproxy.ingress.status.lease import Lease
from kproxy.ingress.status.reports import StatusPatch
from kproxy.ingress.status.writer import StatusWriter, Work
from tests.ingress.gateways import gateway
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status
from tests.kit.sources.watching_world import until
from tests.kit.yaml_text import from_yaml

LEASE = ObjectKey("kproxy", "ingress-status")
GW = ObjectKey("default", "gw")


@contextmanager
def writing(kubeconfig: Path, name: str = "one") -> Iterator[StatusWriter]:
    client = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig))))
    lease = Lease(client, LEASE, name)
    writer = StatusWriter(client, lease, renew_seconds=0.05, retry_seconds=0.05, denied_seconds=0.05)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()
        client.close()


def patch(key: ObjectKey, address: str, version: str = "") -> StatusPatch:
    body: dict[str, object] = {"status": {"addresses": [{"type": "IPAddress", "value": address}]}}
    if version:
        body["metadata"] = {"resourceVersion": version}
    return StatusPatch(IngressKind.GATEWAY, key, body)


def addresses(server: ApiServer) -> dict[str, str]:
    return {
        found["metadata"]["name"]: found["status"]["addresses"][0]["value"]
        for found in server.objects("gateways")
        if found.get("status")
    }


def put(server: ApiServer, *names: str) -> None:
    for name in names:
        server.put(from_yaml(gateway({"name": "x"}, name=name)))


def test_statuses_are_written(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, "gw")
    with writing(kubeconfig) as writer:
        writer.submit(Work(patches=[patch(GW, "192.0.2.1")]))
        until(lambda: addresses(api_server) == {"gw": "192.0.2.1"}, "the status")
        assert writer.writes
        writer.submit(Work(patches=[patch(GW, "192.0.2.2")]))
        until(lambda: addresses(api_server) == {"gw": "192.0.2.2"}, "the next one")
        spec = api_server.objects("gateways")[0]["spec"]
        assert spec["listeners"][0]["name"] == "x"
    (lease,) = api_server.objects("leases")
    assert lease["spec"]["holderIdentity"] == ""


def test_only_one_of_two_writes_and_the_other_takes_over(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, "gw")
    with writing(kubeconfig, "two") as second:
        until(lambda: second.writes, "the lease")
        with writing(kubeconfig, "one") as first:
            first.submit(Work(patches=[patch(GW, "192.0.2.1")]))
            second.submit(Work(patches=[patch(GW, "192.0.2.2")]))
            until(lambda: addresses(api_server) == {"gw": "192.0.2.2"}, "the holder's word")
            assert not first.writes
            second.stop()
            until(lambda: addresses(api_server) == {"gw": "192.0.2.1"}, "the heir's word")


@pytest.mark.parametrize("code", [403, 404, 409, 422])
def test_what_is_refused_stops_nothing_else(api_server: ApiServer, kubeconfig: Path, code: int) -> None:
    put(api_server, "a", "gw")
    api_server.faults.add(Status(code), resource="gateways", verb="patch", times=1)
    with writing(kubeconfig) as writer:
        writer.submit(Work(patches=[patch(ObjectKey("default", "a"), "192.0.2.1"), patch(GW, "192.0.2.2")]))
        until(lambda: addresses(api_server) == {"gw": "192.0.2.2"}, "the other one")
        assert writer.failures == (code in (403, 422))


def test_what_is_denied_is_named_and_written_once_it_is_permitted(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, "gw")
    api_server.faults.add(Status(403), resource="gateways", verb="patch", times=None)
    with writing(kubeconfig) as writer:
        told: list[list[str]] = []
        writer.when_denied = lambda: told.append(list(writer.denied))
        writer.submit(Work(patches=[patch(GW, "192.0.2.2")]))
        until(lambda: writer.failures > 2, "trying again")
        api_server.faults.clear()
        until(lambda: addresses(api_server) == {"gw": "192.0.2.2"}, "the status")
        until(lambda: len(told) == 2, "the end of it")
    assert told == [["/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/gw/status"], []]


def test_what_may_pass_is_tried_again(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, "gw")
    api_server.faults.add(Status(503), resource="gateways", verb="patch", times=2)
    with writing(kubeconfig) as writer:
        writer.submit(Work(patches=[patch(GW, "192.0.2.2")]))
        until(lambda: addresses(api_server) == {"gw": "192.0.2.2"}, "the status")


def test_a_mistake_with_one_object_keeps_nothing_else_from_being_written(
    api_server: ApiServer, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is counted, and ends neither the others nor the thread."""
    put(api_server, "gw", "b")
    with writing(kubeconfig) as writer:
        send = writer._client.patch

        def fail(path: str, body: bytes) -> None:
            if "/gw/" in path:
                raise RuntimeError("a bug")
            send(path, body)

        monkeypatch.setattr(writer._client, "patch", fail)
        writer.submit(Work(patches=[patch(GW, "192.0.2.1"), patch(ObjectKey("default", "b"), "192.0.2.2")]))
        until(lambda: addresses(api_server) == {"b": "192.0.2.2"} and writer.failures > 1, "the other one")
        monkeypatch.undo()
        until(lambda: addresses(api_server).get("gw") == "192.0.2.1", "this one")


def test_a_mistake_with_the_lease_is_not_for_good(
    api_server: ApiServer, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api_server, "gw")
    before = counts().get("statuses", 0)
    with monkeypatch.context() as for_now, writing(kubeconfig) as writer:
        for_now.setattr(writer._lease, "renew", lambda: 1 // 0)
        until(lambda: counts().get("statuses", 0) > before, "the mistake")
        writer.submit(Work(patches=[patch(GW, "192.0.2.1")]))
        for_now.undo()
        until(lambda: addresses(api_server) == {"gw": "192.0.2.1"}, "the status")


def test_an_old_version_is_not_written(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, "gw", "b")
    with writing(kubeconfig) as writer:
        writer.submit(
            Work(patches=[patch(GW, "192.0.2.1", version="1"), patch(ObjectKey("default", "b"), "192.0.2.2")])
        )
        until(lambda: addresses(api_server) == {"b": "192.0.2.2"}, "the other one")


def test_services_are_made_changed_and_removed(api_server: ApiServer, kubeconfig: Path) -> None:
    def door(port: int) -> Door:
        metadata = {"name": "gw-kproxy", "namespace": "default"}
        spec = {"ports": [{"name": "p", "port": port, "targetPort": 20000}]}
        key = ObjectKey("default", "gw-kproxy")
        body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        return Door(IngressKind.SERVICE, key, body, GW)

    def ports() -> list[int]:
        return [port["port"] for found in api_server.objects("services") for port in found["spec"]["ports"]]

    with writing(kubeconfig) as writer:
        writer.submit(Work(doors=[door(80)]))
        until(lambda: ports() == [80], "the Service")
        writer.submit(Work(doors=[door(8080)]))
        until(lambda: ports() == [8080], "its change")
        writer.submit(Work(superfluous=[ObjectKey("default", "gw-kproxy")]))
        until(lambda: ports() == [], "its end")
