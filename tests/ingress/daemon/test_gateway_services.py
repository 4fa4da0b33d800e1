"""The Service of each Gateway, at an API server: made, kept as it should be, and gone with its Gateway."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ingress.daemon.test_cluster import DOOR, condition, put, running_at, status_of
from tests.ingress.gateways import gateway, route, to
from tests.ingress.haproxy.kit import get, namespace, pods, slices
from tests.ingress.kit import CLASSES
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status
from tests.kit.waiting import eventually

pytestmark = pytest.mark.kernel

WORLD = (DOOR, CLASSES, slices("web", ["10.1.0.1"]), route(to("web")))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server in a namespace of its own, beside a pod."""
    with namespace(tmp_path), pods(a="10.1.0.1"), ApiServer() as made:
        yield made


def engine_ports(server: ApiServer, name: str = "gw-kproxy") -> dict[int, int]:
    """Return where each port of a Gateway's Service leads."""
    service: dict[str, Any] = server.get("services", "default", name) or {"spec": {"ports": []}}
    return {port["port"]: port["targetPort"] for port in service["spec"]["ports"]}


def answers(port: int) -> bool:
    try:
        return get("any.example.com", port=port).status == 200
    except OSError:
        return False


def programmed(server: ApiServer) -> dict[str, Any]:
    conditions = status_of(server, "gateways", "gw").get("conditions", ())
    return next((one for one in conditions if one["type"] == "Programmed"), {"status": "", "reason": "", "message": ""})


def in_cluster(server: ApiServer, folder: Path) -> Any:
    return running_at(server, folder, "--gateway-service-type", "ClusterIP")


def test_it_follows_the_gateway_and_comes_back_when_it_is_lost(tmp_path: Path, server: ApiServer) -> None:
    put(server, *WORLD, gateway({"name": "http"}))
    with in_cluster(server, tmp_path):
        eventually(lambda: condition(status_of(server, "gateways", "gw"), "Programmed") == "True")
        (before,) = engine_ports(server).values()
        put(server, gateway({"name": "http"}, {"name": "more", "port": 8080}))
        eventually(lambda: set(engine_ports(server)) == {80, 8080})
        assert engine_ports(server)[80] == before
        eventually(lambda: answers(engine_ports(server)[8080]))
        put(server, gateway({"name": "more", "port": 8080}))
        eventually(lambda: set(engine_ports(server)) == {8080})
        eventually(lambda: not answers(before))
        (kept,) = engine_ports(server).values()
        for resource, name in (("services", "gw-kproxy"), ("endpointslices", "gw-kproxy-ipv4")):
            server.delete(resource, "default", name)
            eventually(lambda resource=resource, name=name: server.get(resource, "default", name))  # type: ignore[misc]
        eventually(lambda: engine_ports(server).values() and answers(*engine_ports(server).values()))
        assert engine_ports(server) == {8080: kept}


def test_each_gateway_has_ports_of_its_own_over_a_restart(tmp_path: Path, server: ApiServer) -> None:
    put(server, *WORLD, gateway({"name": "http"}), gateway({"name": "http"}, name="other"))
    with in_cluster(server, tmp_path) as running:
        eventually(lambda: engine_ports(server) and engine_ports(server, "other-kproxy"))
        mine, others = engine_ports(server)[80], engine_ports(server, "other-kproxy")[80]
        assert mine != others
        eventually(lambda: answers(mine))
        assert get("any.example.com", port=others).status == 404
        assert running.stop() == 0
    with in_cluster(server, tmp_path):
        eventually(lambda: answers(mine))
        assert (engine_ports(server)[80], engine_ports(server, "other-kproxy")[80]) == (mine, others)


def test_it_goes_when_the_gateway_is_not_ours_any_more(tmp_path: Path, server: ApiServer) -> None:
    put(server, *WORLD, gateway({"name": "http"}))
    with in_cluster(server, tmp_path):
        eventually(lambda: engine_ports(server))
        (port,) = engine_ports(server).values()
        eventually(lambda: answers(port))
        put(server, gateway({"name": "http"}, gatewayClassName="others"))
        eventually(lambda: server.get("services", "default", "gw-kproxy") is None)
        eventually(lambda: not answers(port))
        eventually(lambda: not status_of(server, "httproutes", "route").get("parents"))


def test_a_gateway_that_is_deleted_closes_its_ports(tmp_path: Path, server: ApiServer) -> None:
    put(server, *WORLD, gateway({"name": "http"}))
    with in_cluster(server, tmp_path):
        eventually(lambda: engine_ports(server))
        (port,) = engine_ports(server).values()
        eventually(lambda: answers(port))
        (owner,) = (server.get("services", "default", "gw-kproxy") or {})["metadata"]["ownerReferences"]
        held = server.get("gateways", "default", "gw")
        assert held is not None
        assert (owner["uid"], owner["controller"]) == (held["metadata"]["uid"], True)  # so that a cluster deletes it
        server.delete("gateways", "default", "gw")
        eventually(lambda: not answers(port))
        eventually(lambda: not status_of(server, "httproutes", "route").get("parents"))


@pytest.mark.parametrize("resource", ["services", "endpointslices"])
def test_what_may_not_be_made_is_named(tmp_path: Path, server: ApiServer, resource: str) -> None:
    for verb in ("create", "patch"):
        server.faults.add(Status(403), resource=resource, verb=verb, times=None)
    put(server, *WORLD, gateway({"name": "http"}))
    with in_cluster(server, tmp_path) as running:
        eventually(lambda: programmed(server)["reason"] == "NoResources")
        assert programmed(server)["status"] == "False"
        assert "default/gw-kproxy" in programmed(server)["message"]
        assert "cannot be written" in programmed(server)["message"]
        assert f"/namespaces/default/{resource}/gw-kproxy" in running.log()
        assert running.metric("kproxy_ingress_failed_writes_total") >= 1
        server.faults.clear()
        listeners = yaml.safe_load(gateway({"name": "http"}, {"name": "more", "port": 8080}))
        server.put(listeners)
        eventually(lambda: programmed(server)["status"] == "True")
        eventually(lambda: answers(engine_ports(server)[8080]))
