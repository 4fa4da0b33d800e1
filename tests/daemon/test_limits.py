"""A limit on open files, however low, costs health-check node ports and nothing else; a soft one is raised first."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hack.lab import Kproxy, Lab, Outcome, until
from hack.lab.kproxy import run_command
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port
from tests.kit.packets import PATIENCE

pytestmark = pytest.mark.kernel

FIRST_PORT = 20_000
SERVED = 'kproxy_health_check_node_ports{state="serving"}'
FAILED = 'kproxy_health_check_node_ports{state="failed"}'


def write(folder: Path, services: int, pod_ip: str) -> None:
    """A folder of Services with a health-check node port each, and one pod on this node."""
    objects = []
    for number in range(services):
        name = f"s{number}"
        objects.append(
            make_service(
                name,
                cluster_ip=f"10.96.{10 + number // 250}.{number % 250 + 1}",
                ports=[service_port(80, name="p")],
                type="LoadBalancer",
                spec={"externalTrafficPolicy": "Local", "healthCheckNodePort": FIRST_PORT + number},
                status={"loadBalancer": {"ingress": [{"ip": f"203.0.{number // 250}.{number % 250 + 1}"}]}},
            )
        )
        entry = endpoint(pod_ip, node="node-a")
        objects.append(make_slice(name, name=name, endpoints=[entry], ports=[slice_port(8080, name="p")]))
    draft = folder.parent / "draft"
    draft.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))
    folder.mkdir(exist_ok=True)
    draft.rename(folder / "all.json")


@contextmanager
def running(lab: Lab, folder: Path, limits: str) -> Iterator[Kproxy]:
    node = lab.node
    state = ["--state-directory", str(folder.parent / "state")]
    command = run_command(node.name, node.ip, ["--manifests", str(folder)], state)
    process = node.start(["prlimit", f"--nofile={limits}", *command])
    kproxy = Kproxy(process, node.namespace, node.ip)
    try:
        kproxy.wait_ready(PATIENCE)
        yield kproxy
    except Exception as error:
        raise AssertionError(f"{error}\n--- kproxy's log\n{kproxy.log()}") from error
    finally:
        if process.exit_code is None:
            assert process.stop(PATIENCE) == 0
        node.clean_up()
    assert "Traceback" not in kproxy.log()


@pytest.fixture(scope="module")
def pod_ip(lab: Lab) -> str:
    pod = lab.add_pod("web-1")
    pod.serve(8080)
    lab.add_pod("asker")
    return pod.ip


def sum_of_ports(kproxy: Kproxy) -> float:
    metrics = kproxy.metrics()
    return metrics.get(SERVED, 0) + metrics.get(FAILED, 0)


def healthy(kproxy: Kproxy) -> bool:
    try:
        return kproxy.get("/healthz")[0] == 200
    except OSError:
        return False


def test_a_soft_limit_is_raised(lab: Lab, tmp_path: Path, pod_ip: str) -> None:
    """As under systemd, whose soft limit is 1,024."""
    write(tmp_path / "objects", 1_100, pod_ip)
    with running(lab, tmp_path / "objects", "1024:4096") as kproxy:
        until(lambda: kproxy.metrics().get(SERVED) == 1_100, PATIENCE, "all health-check node ports to be open")
        assert kproxy.get("/healthz")[0] == 200
        assert kproxy.get("/", FIRST_PORT + 1_099)[0] == 200


@pytest.mark.parametrize("limit", [64, 128])
def test_a_hard_limit_costs_listeners_only(lab: Lab, tmp_path: Path, pod_ip: str, limit: int) -> None:
    folder = tmp_path / "objects"
    write(folder, 120, pod_ip)
    asker = lab.pod("asker")
    with running(lab, folder, f"{limit}:{limit}") as kproxy:
        until(lambda: sum_of_ports(kproxy) == 120, PATIENCE, "the ports to be counted")
        metrics = kproxy.metrics()
        assert 0 < metrics[SERVED] < 120
        assert kproxy.get("/", FIRST_PORT)[0] == 200
        assert kproxy.log().count("could not be opened") == 0, "120 lines would say no more than one"
        assert "limit on open files" in kproxy.log()
        # Clients that hang on to their connections change nothing.
        with lab.client.namespace.entered():
            hanging = [socket.create_connection((lab.node.ip, 10256)) for _ in range(40)]
        try:
            write(folder, 121, pod_ip)
            until(lambda: asker.ask("10.96.10.121", 80, timeout=1).outcome is Outcome.ANSWERED, PATIENCE, "news")
        finally:
            for connection in hanging:
                connection.close()
        until(lambda: healthy(kproxy), PATIENCE, "the health server to have room again")
        assert metrics["process_open_fds"] <= limit - 16
        assert "Too many open files" not in kproxy.log()
