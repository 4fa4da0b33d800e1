"""A shop of three Services by two hosts, for a client outside: by an external IP or a node port, which kproxy serves,
to HAProxy in a pod, and on to pods on two nodes.
"""

import http.client
import json
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.lab import Host, Lab, Process, until
from hack.lab import Pod as LabPod
from tests.ingress.daemon.kit import end_haproxy, state_of, write
from tests.ingress.haproxy.kit import Pod
from tests.ingress.kit import key_and_certificate, secret, shop
from tests.kit.packets import PATIENCE, external_ips

pytestmark = pytest.mark.kernel

EXTERNAL = external_ips(30).v4
NODE_PORT = 30080
SHOP = {"front": "node-a", "cart": "node-b", "admin": "node-b"}
EDGE = f"""
apiVersion: v1
kind: Service
metadata: {{name: edge}}
spec:
  type: NodePort
  clusterIP: 10.96.0.30
  externalIPs: [{EXTERNAL}]
  externalTrafficPolicy: Local
  ports:
  - {{name: http, port: 80, targetPort: 80, nodePort: {NODE_PORT}}}
  - {{name: https, port: 443, targetPort: 443, nodePort: 30443}}
"""
INGRESS = shop({"shop.example.com": {"/": "front", "/cart": "cart"}, "admin.example.com": {"/": "admin"}})


def behind(service: str, pod: LabPod, *ports: str) -> str:
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{", ".join(ports)}]
endpoints: [{{addresses: ["{pod.ip}"], nodeName: {pod.node.name}}}]
"""


def service(name: str, number: int) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: 10.96.0.{number}, ports: [{{name: http, port: 80}}]}}
"""


@pytest.fixture(scope="module")
def folder(lab: Lab) -> Path:
    folder = lab.folder / "manifests"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def servers(lab: Lab) -> Iterator[dict[str, Pod]]:
    running = {}
    for name, node in SHOP.items():
        pod = lab.add_pod(name, node)
        with pod.namespace.entered():
            running[name] = Pod(name, pod.ip)
    yield running
    for server in running.values():
        server.close()


@pytest.fixture(scope="module")
def ingress(lab: Lab, servers: dict[str, Pod], folder: Path) -> Iterator[Process]:
    """The program in a pod of node-a, and kproxy on the node, both by the same folder."""
    pod = lab.add_pod("ingress", "node-a")
    write(folder / "edge.yaml", EDGE, behind("edge", pod, "{name: http, port: 80}", "{name: https, port: 443}"))
    for number, name in enumerate(servers, start=31):
        write(folder / f"{name}.yaml", service(name, number), behind(name, lab.pod(name), "{name: http, port: 8080}"))
    write(folder / "shop.yaml", INGRESS, secret("shop-tls"))
    kproxy = lab.node.start_kproxy(manifests=folder, args=["--state-directory", str(lab.folder / "state")])
    state = state_of(lab.folder)
    command = [sys.executable, "-m", "kproxy", "ingress", "--manifests", str(folder), "--state-dir", str(state)]
    running = pod.start(command)
    try:
        kproxy.wait_ready(PATIENCE)
        until(lambda: "HAProxy is in line" in running.log(), PATIENCE, "HAProxy to serve")
        yield running
        assert running.stop(60) == 0
        assert "Traceback" not in running.log()
    finally:
        with pod.namespace.entered():
            end_haproxy(state)
        shutil.rmtree(state, ignore_errors=True)


def ask(client: Host, host: str, path: str = "/", *, to: str = EXTERNAL, port: int = 80, tls: bool = False) -> Any:
    """Ask from a host; return the code, and what the pod says that it has seen."""
    connection = http.client.HTTPConnection(to, port, timeout=PATIENCE)
    with client.namespace.entered():
        sock: socket.socket = socket.create_connection((to, port), PATIENCE)
    if tls:
        trust = ssl.create_default_context(cadata=key_and_certificate("shop.example.com")[1])
        sock = trust.wrap_socket(sock, server_hostname=host)
    connection.sock = sock
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else {}
    finally:
        connection.close()


@pytest.mark.usefixtures("ingress")
@pytest.mark.parametrize(
    ("host", "path", "pod"),
    [
        ("shop.example.com", "/", "front"),
        ("shop.example.com", "/cart", "cart"),
        ("shop.example.com", "/cart/1?x=y", "cart"),
        ("shop.example.com", "/cartoon", "front"),
        ("admin.example.com", "/cart", "admin"),
    ],
)
@pytest.mark.parametrize("way", ["external IP", "node port"])
def test_a_client_outside_reaches_each_service(lab: Lab, host: str, path: str, pod: str, way: str) -> None:
    to, port = (EXTERNAL, 80) if way == "external IP" else (lab.node.ip, NODE_PORT)
    status, seen = ask(lab.client, host, path, to=to, port=port)
    assert (status, seen.get("pod")) == (200, pod)
    assert ["x-forwarded-for", lab.client.ip] in seen["headers"], "the client's address got lost on the way"


@pytest.mark.usefixtures("ingress")
def test_with_the_shop_s_own_certificate(lab: Lab) -> None:
    status, seen = ask(lab.client, "shop.example.com", "/cart", port=443, tls=True)
    assert (status, seen["pod"]) == (200, "cart")
    assert ["x-forwarded-proto", "https"] in seen["headers"]


@pytest.mark.usefixtures("ingress")
def test_nobody_s_host_is_not_found(lab: Lab) -> None:
    assert ask(lab.client, "nobody.example.com")[0] == 404


@pytest.mark.usefixtures("ingress")
def test_endpoints_that_move_to_another_node_are_followed(lab: Lab, folder: Path) -> None:
    pod = lab.add_pod("front-2", "node-b")
    with pod.namespace.entered():
        server = Pod("front-2", pod.ip)
    try:
        write(folder / "front.yaml", service("front", 31), behind("front", pod, "{name: http, port: 8080}"))
        until(lambda: ask(lab.client, "shop.example.com")[1].get("pod") == "front-2", PATIENCE, "the other pod")
    finally:
        server.close()
