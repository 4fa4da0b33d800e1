"""The program on a folder of manifests: an HTTP load balancer without a cluster, and what may befall it."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.ingress.daemon.kit import METRICS, REPOSITORY, Program, program, write
from tests.ingress.haproxy.kit import Answer, Load, Pod, get, ingress, namespace, pods, slices
from tests.ingress.kit import key_and_certificate, secret, shop
from tests.kit.totals import fallen, totals_of
from tests.kit.waiting import eventually

pytestmark = pytest.mark.kernel


@pytest.fixture
def three(tmp_path: Path) -> Iterator[dict[str, Pod]]:
    with namespace(tmp_path), pods(a="10.1.0.1", b="10.1.0.2", c="10.1.0.3") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, three: dict[str, Pod]) -> Path:
    assert three
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder / "web.yaml", slices("web", ["10.1.0.1"]), ingress("web.example.com", "web"))
    return folder


@pytest.fixture
def running(tmp_path: Path, folder: Path) -> Iterator[Program]:
    with program(tmp_path, "--manifests", str(folder), "--access-log") as made:
        yield made


def haproxy_of(running: Program) -> int:
    return int((running.state / "haproxy.pid").read_text())


def test_files_are_followed_without_a_reload(folder: Path, running: Program) -> None:
    assert get("web.example.com").pod == "a"
    assert get("shop.example.com").status == 404
    reloads = running.metric("kproxy_ingress_reloads_total")
    write(folder / "shop.yaml", slices("shop", ["10.1.0.2"]), ingress("shop.example.com", "shop"))
    eventually(lambda: get("shop.example.com").status == 200)
    assert get("shop.example.com").pod == "b"
    write(folder / "shop.yaml", slices("shop", ["10.1.0.3"]), ingress("shop.example.com", "shop"))
    eventually(lambda: get("shop.example.com").pod == "c")
    write(folder / "shop.yaml", slices("shop", []), ingress("shop.example.com", "shop"))
    eventually(lambda: get("shop.example.com").status == 503)
    (folder / "shop.yaml").unlink()
    eventually(lambda: get("shop.example.com").status == 404)
    assert get("web.example.com").pod == "a"
    assert running.metric("kproxy_ingress_reloads_total") == reloads
    assert running.metric("kproxy_ingress_runtime_changes_total") >= 4


def test_a_shop_by_two_hosts_and_its_own_certificate(folder: Path, running: Program) -> None:
    assert running.is_ready()
    documents = [
        *(slices(name, [address]) for name, address in (("front", "10.1.0.1"), ("cart", "10.1.0.2"))),
        secret("shop-tls"),
        shop({"shop.example.com": {"/": "front", "/cart": "cart"}, "admin.example.com": {"/": "cart"}}),
    ]
    write(folder / "shop.yaml", *documents)
    trust = ssl.create_default_context(cadata=key_and_certificate("shop.example.com")[1])

    def ask(path: str) -> Answer | None:
        try:
            return get("shop.example.com", path, port=443, tls=trust)
        except OSError:
            return None

    eventually(lambda: (answer := ask("/")) is not None and answer.status == 200)
    for path, pod in (("/", "a"), ("/cart/1", "b"), ("/cartoon", "a")):
        answer = ask(path)
        assert answer is not None
        assert answer.pod == pod
        assert ["x-forwarded-proto", "https"] in answer.seen["headers"]
    assert get("admin.example.com").pod == "b"


def test_requests_are_counted_by_route_and_logged(running: Program) -> None:
    for _ in range(5):
        assert get("web.example.com").status == 200
    get("nobody.example.com")
    eventually(lambda: running.metric("kproxy_ingress_requests_total") == 6)  # counted once it is over for HAProxy, too
    route = 'backend="default/web:80",code="2xx",route="Ingress/default/web.example.com/0"'
    metrics = running.metrics()
    assert metrics[f"kproxy_ingress_requests_total{{{route}}}"] == 5
    assert metrics['kproxy_ingress_requests_total{backend="",code="4xx",route="none"}'] == 1
    assert running.metric("kproxy_ingress_response_duration_seconds_count") == 5
    assert metrics['kproxy_ingress_endpoints{backend="default/web:80",state="ready"}'] == 1
    assert metrics["kproxy_ingress_haproxy_up"] == 1
    eventually(lambda: running.out().count('"GET / HTTP/1.1"') == 6)
    for page in ("/healthz", "/livez", "/readyz"):
        assert running.get(page)[0] == 200


def test_haproxys_own_exporter_is_passed_on_and_can_be_joined_with_routes(running: Program) -> None:
    get("web.example.com")
    eventually(lambda: running.metric("kproxy_ingress_requests_total") == 1)
    status, text = running.get("/metrics/haproxy", METRICS)
    assert status == 200
    assert "haproxy_process_uptime_seconds" in text
    (info,) = [name for name in running.metrics() if name.startswith("kproxy_ingress_slot_info")]
    assert 'route="Ingress/default/web.example.com/0"' in info
    proxy = info.split('proxy="')[1].split('"')[0]
    assert f'haproxy_backend_http_responses_total{{proxy="{proxy}",code="2xx"}} 1' in text
    assert "haproxy_server_" not in text
    assert "haproxy_server_" in running.get("/metrics/haproxy?scope=server", METRICS)[1]
    assert running.get("/metrics/haproxy?scope=%0d%0a", METRICS)[0] == 400
    assert 'frontend="exporter"' not in running.get("/metrics", METRICS)[1]


def test_counts_survive_a_reload(folder: Path, running: Program) -> None:
    get("web.example.com")
    eventually(lambda: running.metric("kproxy_ingress_requests_total") == 1)
    gateway = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: kproxy, listeners: [{name: http, port: 8081, protocol: HTTP}]}
"""
    write(folder / "gateway.yaml", gateway)
    eventually(lambda: running.metric('kproxy_ingress_reloads_total{result="ok"}') == 2)
    get("web.example.com")
    eventually(lambda: running.metric("kproxy_ingress_requests_total") == 2)


def test_the_running_program_explains(running: Program) -> None:
    command = [sys.executable, "-m", "kproxy", "explain", "http://web.example.com/x", "-o", "json"]
    done = subprocess.run(
        [*command, "--state-dir", str(running.state)], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr
    (way,) = json.loads(done.stdout)["ways"]
    assert way["object"] == "default/web.example.com"
    assert way["choices"][0]["endpoints"] == [{"address": "10.1.0.1:8080", "share": 1.0, "draining": False}]


def test_a_bad_object_is_named_once_and_stops_nobody(folder: Path, running: Program) -> None:
    write(folder / "bad.yaml", ingress("bad.example.com", "web", path="no-slash"))
    write(folder / "good.yaml", ingress("good.example.com", "web"))
    eventually(lambda: get("good.example.com").status == 200)
    eventually(lambda: running.metric("kproxy_ingress_problems") == 1)
    assert running.log().count('object="Ingress default/bad.example.com"') == 1


def test_a_kproxy_that_is_killed_leaves_haproxy_serving_and_the_next_takes_over(
    tmp_path: Path, folder: Path, running: Program
) -> None:
    before = haproxy_of(running)
    with Load("web.example.com") as load:
        running.kill()
        load.await_more(50)
        with program(tmp_path, "--manifests", str(folder), "--access-log", end=False) as heir:
            write(folder / "web.yaml", slices("web", ["10.1.0.2"]), ingress("web.example.com", "web"))
            eventually(lambda: load.answered.get("b"))
            assert haproxy_of(heir) == before
            assert heir.metric("kproxy_ingress_reloads_total") == 0
        load.await_more(50)
    assert load.failed == []


def test_haproxy_that_is_killed_is_started_again(running: Program) -> None:
    os.kill(haproxy_of(running), signal.SIGKILL)
    eventually(lambda: running.metric("kproxy_ingress_restarts_total") == 1)

    def answers() -> bool:
        try:
            return get("web.example.com").status == 200
        except OSError:
            return False

    eventually(answers)


def test_at_sigterm_requests_are_finished(three: dict[str, Pod], running: Program) -> None:
    three["a"].delay_s = 1.5
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(get("web.example.com")))
    seen = three["a"].requests
    client.start()
    eventually(lambda: three["a"].requests > seen)
    assert running.stop() == 0
    client.join(10)
    assert [answer.status for answer in answers] == [200]
    with pytest.raises(OSError, match="refused"):
        get("web.example.com")


def test_haproxy_may_be_left_running(tmp_path: Path, folder: Path, three: dict[str, Pod]) -> None:
    assert three
    with program(tmp_path, "--manifests", str(folder), "--leave-haproxy") as first:
        assert first.stop() == 0
        assert get("web.example.com").pod == "a"
        with program(tmp_path, "--manifests", str(folder), end=False) as second:
            assert get("web.example.com").pod == "a"
            assert second.metric("kproxy_ingress_reloads_total") == 0


def test_totals_go_on_over_changes_of_the_configuration(tmp_path: Path, folder: Path) -> None:
    config = tmp_path / "ingress.yaml"
    head = "apiVersion: kproxy.dev/v1alpha1\nkind: IngressConfiguration\n"
    write(config, f"{head}manifests: {folder}")
    with program(tmp_path, "--config", str(config)) as running:
        before: dict[str, float] = {}
        for number in range(3):
            assert get("web.example.com").pod == "a"
            host, starts = f"more-{number}.example.com", running.log().count("starting")
            write(folder / f"more-{number}.yaml", slices("more", []), ingress(host, "more"))
            eventually(partial(has_status, host, 503))
            after = totals_of(running.get("/metrics", METRICS)[1])
            assert fallen(before, after) == {}
            assert running.metric("kproxy_ingress_requests_total") > number
            before = after
            write(config, f"{head}manifests: {folder}\nlogging: {{verbosity: {3 + number}}}")
            eventually(partial(has_started_again, running, starts))


def has_status(host: str, status: int) -> bool:
    return get(host).status == status


def has_started_again(running: Program, starts: int) -> bool:
    return running.log().count("starting") > starts and running.is_ready()


def test_a_changed_configuration_is_taken_up(tmp_path: Path, folder: Path) -> None:
    config = tmp_path / "ingress.yaml"
    head = "apiVersion: kproxy.dev/v1alpha1\nkind: IngressConfiguration\n"
    config.write_text(f'{head}manifests: {folder}\nhttpBindAddress: [":80"]\n')
    with program(tmp_path, "--config", str(config)) as running:
        config.write_text(f'{head}manifests: {folder}\nhttpBindAddress: [":80x"]\n')
        eventually(lambda: "httpBindAddress[0]" in running.log())
        assert get("web.example.com").status == 200
        config.write_text(f'{head}manifests: {folder}\nhttpBindAddress: [":8081"]\n')

        def answers() -> bool:
            try:
                return get("web.example.com", port=8081).status == 200
            except OSError:
                return False

        eventually(answers)


def test_a_port_that_another_has_is_waited_for(tmp_path: Path, folder: Path) -> None:
    with socket.create_server(("", 80)) as other, program(tmp_path, "--manifests", str(folder), ready=False) as running:
        eventually(lambda: "cannot listen at :80" in running.log())
        eventually(lambda: running.get("/healthz")[0] == 503)
        assert "Address already in use" in running.get("/readyz")[1]
        other.close()
        eventually(running.is_ready)
        assert get("web.example.com").pod == "a"
