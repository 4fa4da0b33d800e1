"""The test API server as a process of its own, and steering it through its control socket."""

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.apiserver.__main__ import main
from tests.kit.apiserver.control import ControlClient, serve_control
from tests.kit.apiserver.faults import Reset, Silence, Status
from tests.kit.apiserver.objects import make_cluster, make_node, make_service, make_slice
from tests.kit.apiserver.process import ApiServerProcess
from tests.kit.apiserver.rawclient import RawClient
from tests.kit.apiserver.server import ApiServer
from tests.kit.paths import ROOT

SERVICES = "/api/v1/services"


@pytest.fixture
def control(api_server: ApiServer, tmp_path: Path) -> Iterator[ControlClient]:
    with serve_control(api_server, tmp_path / "control"), ControlClient(tmp_path / "control") as control:
        yield control


def test_objects_come_and_go(api_server: ApiServer, control: ControlClient) -> None:
    assert control.put(make_service("a"), make_service("b")) == api_server.version
    assert control.delete("services", "default", "a") is True
    assert control.delete("services", "default", "a") is False
    assert [one["metadata"]["name"] for one in control.objects("services")] == ["b"]
    control.replace_all([make_node("node-a")])
    assert (control.objects("services"), len(api_server.objects("nodes"))) == ([], 1)


def test_many_objects_in_batches(api_server: ApiServer, control: ControlClient) -> None:
    control.put_all(make_cluster(450, 2))

    assert [len(api_server.objects(kind)) for kind in ("services", "endpointslices")] == [450, 450]


def test_faults_are_set_and_cleared(api_server: ApiServer, control: ControlClient) -> None:
    control.add_fault(Status(503, retry_after=1), resource="services", verb="list", times=2)
    control.add_fault(Reset(after=3, frame="bookmark"), resource="endpointslices", verb="watch")
    assert api_server.faults.take("endpointslices", "watch", {}) == Reset(after=3, frame="bookmark")
    with RawClient(api_server) as client:
        assert client.request(SERVICES).code == 503
        control.clear_faults()
        assert client.request(SERVICES).code == 200


def test_state_tells_what_was_asked_of_the_server(api_server: ApiServer, control: ControlClient) -> None:
    with RawClient(api_server) as client:
        client.request(f"{SERVICES}?limit=7")
        client.open(f"{SERVICES}?watch=true")
        state = control.state("services", "list", with_requests=True)

        assert (state.version, state.count, state.open_watches) == (api_server.version, 1, 1)
        assert state.requests[0].query == {"limit": "7"}


def test_server_methods_and_settings(api_server: ApiServer, control: ControlClient) -> None:
    control.call("stop")
    with RawClient(api_server) as client, pytest.raises(ConnectionRefusedError):
        client.open("/version")
    control.call("start")
    control.set(streaming_lists="forbidden", bookmark_period=5, token="other")

    assert api_server.settings.streaming_lists == "forbidden"
    assert api_server.settings.bookmark_period == 5
    assert api_server.tokens == {"other"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"nonsense", "malformed"),
        (b'{"type":"Put","objects":[{"kind":"Pod"}]}', "no resource for apiVersion"),
        (b'{"type":"Delete","resource":"pods","namespace":"","name":"p"}', "no resource named 'pods'"),
        (b'{"type":"Do","verb":"explode"}', "Invalid enum value 'explode'"),
    ],
)
def test_bad_command_is_answered_and_the_connection_lives_on(
    control: ControlClient, line: bytes, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        control.send(line)

    assert control.put(make_service("web")) > 0


def fetch(process: ApiServerProcess, path: str) -> Any:
    """Ask the process with what it left in its kubeconfig's place: authority and token."""
    folder = process.service_account
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    headers = {"Authorization": f"Bearer {(folder / 'token').read_text()}"}
    request = urllib.request.Request(process.url + path, headers=headers)  # noqa: S310 - an address of our own
    with urllib.request.urlopen(request, context=context, timeout=20) as response:  # noqa: S310
        return json.load(response)


def test_process_serves_files_and_obeys(tmp_path: Path) -> None:
    manifests = tmp_path / "objects.yaml"
    manifests.write_text(yaml.safe_dump_all([make_service("web"), {"kind": "List", "items": [make_slice("web")]}]))
    dump = tmp_path / "services.json"
    bare = {key: value for key, value in make_service("api").items() if key not in ("kind", "apiVersion")}
    dump.write_text(json.dumps({"kind": "ServiceList", "apiVersion": "v1", "items": [bare]}))
    arguments = ["--objects", str(manifests), "--objects", str(dump), "--cluster", "3x2"]

    with ApiServerProcess(arguments=arguments) as process:
        names = [item["metadata"]["name"] for item in fetch(process, SERVICES)["items"]]
        process.control.put(make_service("late"))
        process.control.add_fault(Silence(), resource="nodes")

        assert names == ["svc-00000", "svc-00001", "svc-00002", "api", "web"]
        assert len(fetch(process, SERVICES)["items"]) == 6
        assert yaml.safe_load(process.kubeconfig.read_text())["clusters"][0]["cluster"]["server"] == process.url
        with process.connect() as second:
            assert second.state("services", "list").count == 2
    assert not process.kubeconfig.exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--objects", "missing.yaml"], "No such file or directory: 'missing.yaml'"),
        (["--address", "192.0.2.1"], "192.0.2.1"),
        (["--objects", __file__], "expected an object, found str"),
    ],
)
def test_it_says_in_one_line_why_it_can_not_start(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("apiserver: ")
    assert err.count("\n") == 1
    assert complaint in err


def test_process_ends_with_the_one_that_started_it() -> None:
    command = [sys.executable, "-m", "tests.kit.apiserver", "--end-with-stdin"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        process.stdin.close()
        assert process.wait(20) == 0


def test_process_that_does_not_start_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="did not start: exit code 1"):
        ApiServerProcess(arguments=["--objects", "missing.yaml"]).start()
    said = capfd.readouterr().err
    assert "missing.yaml" in said
    assert "Traceback" not in said


def test_process_ends_on_a_signal_in_good_order() -> None:
    command = [sys.executable, "-m", "tests.kit.apiserver"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready https://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.kernel
def test_process_in_a_network_namespace() -> None:
    """It listens inside only, is steered from outside, and goes away with the block."""
    namespace = f"kpx-api-{os.getpid()}"
    inside = ["ip", "netns", "exec", namespace]
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        with ApiServerProcess(netns=namespace, arguments=["--anonymous", "--no-tls"]) as process:
            process.control.put(make_service("web"))
            fetch_it = f"import urllib.request as r; print(r.urlopen({process.url + SERVICES!r}).read().decode())"
            output = subprocess.run([*inside, sys.executable, "-c", fetch_it], check=True, capture_output=True).stdout
            with pytest.raises(urllib.error.URLError, match="refused"):
                urllib.request.urlopen(process.url, timeout=20)  # noqa: S310 - an address of our own
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)

    assert [item["metadata"]["name"] for item in json.loads(output)["items"]] == ["web"]
