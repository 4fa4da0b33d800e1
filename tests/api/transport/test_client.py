"""Requests: a failure is one line that names the server, and a dead server is not the end while there are others."""

import re
import select
import socket
import threading
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
import yaml
from urllib3 import HTTPResponse, PoolManager

from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.transport.failures import ApiError, RefusedError
from tests.api.transport.kit import broken_off
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Hang, Reset, Silence, Status, Truncate
from tests.kit.apiserver.objects import make_service
from tests.kit.sources.watching_world import World, running, until
from tests.kit.yaml_text import from_yaml

LIST = "/api/v1/services"


@pytest.fixture
def api(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> ApiClient:
    monkeypatch.setattr("kproxy.api.transport.client.CONNECT_SECONDS", 0.5)
    return ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig))))


def failure(api: ApiClient, path: str = LIST, patience: float = 0.5) -> str:
    with pytest.raises(ApiError) as error:
        api.get(path, patience=patience).read()
    assert str(error.value).isprintable()
    return str(error.value)


def test_answer(api: ApiClient, api_server: ApiServer) -> None:
    api_server.put(make_service("web"))
    answer = api.get(LIST, {"labelSelector": "!a/b", "limit": "5"})
    assert answer.server == api_server.url
    assert len(msgspec.json.decode(answer.read())["items"]) == 1
    (request,) = api_server.requests.seen("services")
    assert request.query == {"labelSelector": "!a/b", "limit": "5"}
    assert request.user_agent.startswith("kproxy/")


def test_connection_is_kept(api: ApiClient, api_server: ApiServer) -> None:
    for _ in range(5):
        api.get(LIST).read()
    api_server.refuse()  # new ones only
    api.get(LIST).read()


def test_put_patch_and_delete(api: ApiClient, api_server: ApiServer) -> None:
    api_server.put(make_service("web"))
    path = "/api/v1/namespaces/default/services/web"
    service = msgspec.json.decode(api.get(path).read())
    service["metadata"]["labels"] = {"a": "b"}
    put = msgspec.json.decode(api.put(path, msgspec.json.encode(service)))
    with pytest.raises(RefusedError) as conflict:
        api.put(path, msgspec.json.encode(service))
    assert conflict.value.code == 409
    patch = {"metadata": {"labels": {"c": "d"}, "resourceVersion": put["metadata"]["resourceVersion"]}}
    patched = msgspec.json.decode(api.patch(path, msgspec.json.encode(patch)))
    assert patched["metadata"]["labels"] == {"a": "b", "c": "d"}
    api.delete(path)
    with pytest.raises(RefusedError) as gone:
        api.delete(path)
    assert gone.value.code == 404


def test_post(api: ApiClient, api_server: ApiServer) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "started", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": "n"},
    }
    made = msgspec.json.decode(api.post("/api/v1/namespaces/default/events", msgspec.json.encode(event)))
    assert made["metadata"]["name"] == "started"
    assert [event["metadata"]["name"] for event in api_server.events] == ["started"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            Status(403, message="services is forbidden"),
            "403 Forbidden: services is forbidden; bind the user of kubeconfig",
        ),
        (Status(500, message="etcd\n\x1b[31m"), r"500 Internal Server Error: etcd\\n\\x1b\[31m"),
        (Status(429), "429 Too Many Requests"),
        (Hang(), "it fell silent"),
        (Silence(), "it fell silent"),
        (Reset(), "the connection broke off|connection reset by peer"),
        (Truncate(), None),
    ],
)
def test_refusals_and_broken_answers(api: ApiClient, api_server: ApiServer, fault: Status, message: str | None) -> None:
    api_server.faults.add(fault)
    if message is None:
        assert not api.get(LIST).read().endswith(b"}")  # whoever reads it notices
    else:
        assert re.match(f"API server {api_server.url}: (?:{message})", failure(api))


def test_nobody_there(api: ApiClient, api_server: ApiServer) -> None:
    api_server.stop()
    expected = "connection refused; check the server's URL in --kubeconfig or --master"
    assert failure(api) == f"API server {api_server.url}: {expected}"


def test_nobody_answers(api: ApiClient, api_server: ApiServer) -> None:
    api_server.black_hole()
    assert failure(api) == f"API server {api_server.url}: it fell silent"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://no-such-host.invalid:6443", "its name cannot be resolved: .*; check the server's URL"),
        ("https://127.0.0.1:1", "connection refused; check the server's URL"),
        ("https://localhost:{plain}", "it does not speak TLS; check the server's URL"),
        ("http://localhost:{tls}", "it closed the connection|the connection broke off|connection reset by peer|400"),
    ],
)
def test_wrong_url(kubeconfig: Path, api_server: ApiServer, url: str, message: str) -> None:
    with ApiServer(tls=False) as plain:
        url = url.format(plain=plain.port, tls=api_server.port)
        api = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig), master=url)))
        assert re.match(f"API server {url}: (?:{message})", failure(api))


@pytest.mark.parametrize(("header", "seconds"), [(3, 3.0), (None, None)])
def test_retry_after(api: ApiClient, api_server: ApiServer, header: int | None, seconds: float | None) -> None:
    api_server.faults.add(Status(429, retry_after=header))
    with pytest.raises(RefusedError) as error:
        api.get(LIST)
    assert error.value.retry_after == seconds
    assert error.value.code == 429


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("1, 1", 1.0),  # as where a proxy and the server both set one
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("soon, perhaps", None),
        (", ", None),
        ("", None),
    ],
)
def test_retry_after_as_others_on_the_way_may_write_it(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, header: str, seconds: float | None
) -> None:
    answer = HTTPResponse(BytesIO(), headers={"Retry-After": header}, status=503, preload_content=False)
    monkeypatch.setattr(PoolManager, "urlopen", lambda *_args, **_more: answer)
    with pytest.raises(RefusedError, match="503 Service Unavailable") as error:
        api.get(LIST)
    assert error.value.retry_after == seconds


def test_version_too_large_is_told_apart(api: ApiClient) -> None:
    with pytest.raises(RefusedError) as error:
        api.get(LIST, {"resourceVersion": "999999999", "resourceVersionMatch": "NotOlderThan"})
    assert error.value.version_too_large


def test_closing_breaks_off_what_others_wait_for(api: ApiClient, api_server: ApiServer) -> None:
    answer = api.get(LIST, {"watch": "true"})
    api_server.requests.wait_open("services")
    with broken_off(answer, within=30):  # by itself, it would have waited longer
        api.close()
    assert "kproxy is stopping" in failure(api) or "broke off" in failure(api)


# Several servers


@pytest.fixture
def second(api_server: ApiServer) -> ApiServer:
    """A second server in front of the same data."""
    server = ApiServer(address="127.0.0.2")
    server._authority = api_server._authority
    server._certificate = api_server._authority.issue_server(["127.0.0.2"])
    server.store = api_server.store
    return server


def test_turns_to_the_next_server(api_server: ApiServer, second: ApiServer, kubeconfig: Path) -> None:
    with second:
        api = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig), fallbacks=(second.url,))))
        assert api.get(LIST).server == api_server.url
        api_server.stop()
        assert api.get(LIST).server == second.url
        assert api.get(LIST).server == second.url
        api_server.start()
        assert api.get(LIST).server == second.url  # no need to go back
        second.stop()
        assert api.get(LIST).server == api_server.url
        api_server.stop()
        assert "connection refused" in failure(api)


@pytest.mark.parametrize("code", [502, 503])
def test_turns_to_the_next_server_from_one_that_is_not_up_to_it(
    api_server: ApiServer, second: ApiServer, kubeconfig: Path, code: int
) -> None:
    with second:
        api = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig), fallbacks=(second.url,))))
        api_server.faults.add(Status(code))
        assert api.get(LIST).server == second.url


def test_other_refusals_are_answers(api_server: ApiServer, second: ApiServer, kubeconfig: Path) -> None:
    with second:
        api = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig), fallbacks=(second.url,))))
        api_server.faults.add(Status(403))
        assert "403" in failure(api)
        assert second.requests.count() == 0


def test_watch_goes_on_at_the_next_server(api_server: ApiServer, second: ApiServer, kubeconfig: Path) -> None:
    with second:
        world = World(api_server, kubeconfig, fallbacks=(second.url,))
        world.put("a", "b")
        with running(world):
            world.watching()
            api_server.stop()
            world.put("c")
            world.delete("a")
            world.in_step()
            assert world.status.lists == 1
        assert world.removed == ["a"]


def test_server_that_falls_silent_is_left(api_server: ApiServer, second: ApiServer, kubeconfig: Path) -> None:
    with second:
        world = World(api_server, kubeconfig, fallbacks=(second.url,))
        world.put("a")
        with running(world):
            world.watching()
            api_server.faults.add(Silence(), verb="watch", times=None)
            api_server.end_watches()
            api_server.requests.wait("services", "watch", count=2)
            until(lambda: second.requests.open_watches("services") == 1, "a watch at the other server")


def test_node_without_a_proxy_yet(api_server: ApiServer, tmp_path: Path) -> None:
    """The service's address in the environment leads nowhere before kproxy has written its rules: go round it."""
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    folder = api_server.service_account(tmp_path)
    options = AccessOptions(service_account=folder, environ=environ, fallbacks=(api_server.url,))
    assert ApiClient(Credentials(options)).get(LIST).server == api_server.url


# Other ways through the network


def test_ipv6(tmp_path: Path) -> None:
    with ApiServer(address="::1") as server:
        options = AccessOptions(kubeconfig=str(server.kubeconfig(tmp_path / "config")))
        assert ApiClient(Credentials(options)).get(LIST).server == f"https://[::1]:{server.port}"


def test_http_proxy(api_server: ApiServer, kubeconfig: Path) -> None:
    """A proxy only passes bytes on: TLS is verified through it, with the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = from_yaml(kubeconfig.read_text())
        config["clusters"][0]["cluster"]["proxy-url"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        kubeconfig.write_text(yaml.safe_dump(config))
        passing = threading.Thread(target=pass_on, args=(listener, ("127.0.0.1", api_server.port)))
        passing.start()
        api = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig))))
        assert b"ServiceList" in api.get(LIST).read()
        api.close()
        passing.join()


def pass_on(listener: socket.socket, server: tuple[str, int]) -> None:
    """Serve one CONNECT."""
    client, _ = listener.accept()
    request = client.recv(1 << 16)
    assert request.startswith(b"CONNECT 127.0.0.1:%d " % server[1])
    with client, socket.create_connection(server) as upstream:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        ends = {client: upstream, upstream: client}
        while True:
            for ready in select.select(list(ends), [], [])[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                ends[ready].sendall(data)
