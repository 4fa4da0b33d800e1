"""The program at an API server: what it reads, what it writes, and what it says where it may not."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ingress.daemon.kit import program
from tests.ingress.gateways import gateway, route, to
from tests.ingress.haproxy.kit import Answer, Pod, get, namespace, pods, slices
from tests.ingress.kit import CLASSES, key_and_certificate, secret
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status
from tests.kit.waiting import eventually

pytestmark = pytest.mark.kernel

DOOR = """
apiVersion: v1
kind: Service
metadata: {name: kproxy-ingress, namespace: kproxy-ingress}
spec: {type: LoadBalancer, clusterIP: 10.96.7.7, ports: [{name: http, port: 80}, {name: https, port: 443}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.80}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kproxy-ingress-1, namespace: kproxy-ingress, labels: {kubernetes.io/service-name: kproxy-ingress}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: ["10.1.0.254"]}]
"""
SHOP = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: default, uid: 11111111-2222-3333-4444-555555555555}
spec:
  ingressClassName: kproxy
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[dict[str, Pod]]:
    with namespace(tmp_path), pods(a="10.1.0.1", b="10.1.0.2") as running:
        yield running


@pytest.fixture
def server(two: dict[str, Pod]) -> Iterator[ApiServer]:
    """An API server in the pods' namespace: its threads are made in it."""
    assert len(two) == 2
    with ApiServer() as made:
        yield made


def put(server: ApiServer, *documents: str) -> None:
    for document in documents:
        for raw in yaml.safe_load_all(document):
            server.put(raw)


def running_at(server: ApiServer, folder: Path, *args: str) -> Any:
    kubeconfig = server.kubeconfig(folder / "kubeconfig")
    return program(folder, "--kubeconfig", str(kubeconfig), "--service", "kproxy-ingress/kproxy-ingress", *args)


def by_tls(host: str = "shop.example.com") -> Answer | None:
    trust = ssl.create_default_context(cadata=key_and_certificate(host)[1])
    try:
        return get(host, port=443, tls=trust)
    except OSError:
        return None


def status_of(server: ApiServer, resource: str, name: str) -> dict[str, Any]:
    found = server.get(resource, "default", name)
    return (found or {}).get("status") or {}


def condition(status: dict[str, Any], kind: str) -> str:
    return next((one["status"] for one in status.get("conditions", ()) if one["type"] == kind), "")


def test_an_ingress_is_served_and_told_where(tmp_path: Path, server: ApiServer) -> None:
    put(server, DOOR, slices("web", ["10.1.0.1"]), secret("shop-tls"), secret("other-tls"), SHOP)
    with running_at(server, tmp_path) as running:
        answer = by_tls()
        assert answer is not None, "the Secret was not waited for"
        assert answer.pod == "a"
        eventually(lambda: status_of(server, "ingresses", "shop"))
        assert status_of(server, "ingresses", "shop") == {"loadBalancer": {"ingress": [{"ip": "192.0.2.80"}]}}
        put(server, slices("web", ["10.1.0.2"]))
        eventually(lambda: get("shop.example.com").pod == "b")
        assert running.metric("kproxy_ingress_writes_status") == 1
        (lease,) = server.objects("leases")
        assert lease["metadata"]["name"] == "kproxy-ingress"
        assert lease["spec"]["holderIdentity"]
        server.delete("ingresses", "default", "shop")
        eventually(lambda: get("shop.example.com").status == 404)
        assert running.stop() == 0
    assert server.objects("leases")[0]["spec"]["holderIdentity"] == ""


def test_an_ingress_that_leaves_the_class_is_told_nothing_any_more(tmp_path: Path, server: ApiServer) -> None:
    put(server, DOOR, slices("web", ["10.1.0.1"]), SHOP)
    with running_at(server, tmp_path):
        eventually(lambda: status_of(server, "ingresses", "shop").get("loadBalancer", {}).get("ingress"))
        held = server.get("ingresses", "default", "shop")
        assert held is not None
        server.put(held | {"spec": held["spec"] | {"ingressClassName": "other"}})
        assert status_of(server, "ingresses", "shop")["loadBalancer"]["ingress"]
        eventually(lambda: get("shop.example.com").status == 404)
        eventually(lambda: not status_of(server, "ingresses", "shop")["loadBalancer"].get("ingress"))


def test_a_gateway_gets_a_service_of_its_own_and_conditions(tmp_path: Path, server: ApiServer) -> None:
    put(server, DOOR, CLASSES, gateway({"name": "http"}), route(to("web")), slices("web", ["10.1.0.1"]))
    with running_at(server, tmp_path, "--gateway-service-type", "ClusterIP"):
        eventually(lambda: server.get("services", "default", "gw-kproxy"))
        service = server.get("services", "default", "gw-kproxy")
        assert service is not None
        assert service["metadata"]["ownerReferences"][0]["kind"] == "Gateway"
        (port,) = service["spec"]["ports"]
        assert port["port"] == 80
        assert get("any.example.com", port=port["targetPort"]).pod == "a"
        assert get("any.example.com").status == 404  # at the port of Ingresses there is nothing of the Gateway's
        eventually(lambda: server.get("endpointslices", "default", "gw-kproxy-ipv4"))
        slice_of = server.get("endpointslices", "default", "gw-kproxy-ipv4")
        assert slice_of is not None
        assert slice_of["endpoints"][0]["addresses"] == ["10.1.0.254"]
        assert slice_of["ports"][0]["port"] == port["targetPort"]
        eventually(lambda: condition(status_of(server, "gateways", "gw"), "Programmed") == "True")
        status = status_of(server, "gateways", "gw")
        assert status["addresses"] == [{"type": "IPAddress", "value": service["spec"]["clusterIP"]}]
        assert status["listeners"][0]["attachedRoutes"] == 1
        (parent,) = status_of(server, "httproutes", "route")["parents"]
        assert condition(parent, "Accepted") == condition(parent, "ResolvedRefs") == "True"
        (found,) = server.objects("gatewayclasses")
        assert condition(found["status"], "Accepted") == "True"


def test_only_one_of_two_replicas_writes(tmp_path: Path, server: ApiServer) -> None:
    put(server, DOOR, slices("web", ["10.1.0.1"]), SHOP)
    other = tmp_path / "other"
    other.mkdir()
    ports = ["--healthz-bind-address", "127.0.0.1:1", "--metrics-bind-address", "127.0.0.1:2"]
    elsewhere = ["--http-bind-address", ":81", "--https-bind-address", ":444"]
    with running_at(server, tmp_path) as first:
        eventually(lambda: first.metric("kproxy_ingress_writes_status") == 1)
        kubeconfig = server.kubeconfig(other / "kubeconfig")
        with program(other, "--kubeconfig", str(kubeconfig), *ports, *elsewhere, ready=False) as second:
            eventually(lambda: get_or_none(81) is not None)
            samples = second.get("/metrics", 2)[1]
            assert "kproxy_ingress_writes_status 0.0" in samples
            assert first.stop() == 0
            eventually(lambda: "kproxy_ingress_writes_status 1.0" in second.get("/metrics", 2)[1])


def get_or_none(port: int) -> Answer | None:
    try:
        return get("shop.example.com", port=port)
    except OSError:
        return None


def test_what_it_may_not_see_or_write_is_said_once_and_all_else_works(tmp_path: Path, server: ApiServer) -> None:
    server.faults.add(Status(403), resource="secrets", times=None)
    server.faults.add(Status(403), resource="gateways", times=None)
    server.faults.add(Status(403), resource="ingresses", verb="patch", times=None)
    put(server, DOOR, slices("web", ["10.1.0.1"]), secret("shop-tls"), SHOP)
    with running_at(server, tmp_path) as running:
        assert get("shop.example.com").pod == "a"
        assert by_tls() is None
        eventually(lambda: "may not see a Secret that is named" in running.log())
        eventually(lambda: running.metric("kproxy_ingress_failed_writes_total") >= 1)
        put(server, slices("web", ["10.1.0.2"]))
        eventually(lambda: get("shop.example.com").pod == "b")
        assert running.log().count("may not see a Secret that is named") == 1
        server.faults.clear()
        eventually(lambda: (answer := by_tls()) is not None and answer.pod == "b")


def test_a_problem_is_told_by_an_event(tmp_path: Path, server: ApiServer) -> None:
    bad = SHOP.replace("path: /,", "path: no-slash,")
    put(server, DOOR, slices("web", ["10.1.0.1"]), secret("shop-tls"), SHOP)
    with running_at(server, tmp_path) as running:
        eventually(lambda: running.metric("kproxy_ingress_writes_status") == 1)
        put(server, bad)
        eventually(lambda: server.events)
        event = server.events[0]
        assert event["regarding"]["kind"] == "Ingress"
        assert event["regarding"]["name"] == "shop"
        assert event["regarding"]["uid"] == server.objects("ingresses")[0]["metadata"]["uid"]
        assert event["reason"] == "LeftOut"
        assert event["type"] == "Warning"


def test_no_secret_but_the_named_ones_is_kept(tmp_path: Path, server: ApiServer) -> None:
    put(server, DOOR, slices("web", ["10.1.0.1"]), secret("shop-tls"), secret("other-tls", host="other"), SHOP)
    with running_at(server, tmp_path) as running:
        assert by_tls() is not None
        key = key_and_certificate("other")[0].splitlines()[1].encode()
        for path in running.state.rglob("*"):
            if path.is_file():
                assert key not in path.read_bytes()
        assert {request.path.rpartition("/")[2] for request in server.requests.seen("secrets", "get")} == {"shop-tls"}


def test_an_outage_of_the_api_server_changes_nothing(tmp_path: Path, server: ApiServer) -> None:
    put(server, DOOR, slices("web", ["10.1.0.1"]), SHOP)
    with running_at(server, tmp_path) as running:
        eventually(lambda: get("shop.example.com").pod == "a")
        server.refuse()
        server.cut_connections()
        eventually(lambda: running.metric("kproxy_watch_failing") > 0)
        assert get("shop.example.com").pod == "a"
        assert running.get("/livez")[0] == running.get("/readyz")[0] == 200
        server.accept()
        put(server, slices("web", ["10.1.0.2"]))
        eventually(lambda: get("shop.example.com").pod == "b")
