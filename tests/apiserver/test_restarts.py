"""The test API server's credentials, and its ways to come back: other certificate, older data, versions renumbered."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.kit.apiserver import ApiServer, Settings
from tests.kit.apiserver.objects import make_service
from tests.kit.apiserver.rawclient import CUT, RawClient
from tests.kit.waiting import PATIENCE, eventually
from tests.kit.yaml_text import from_yaml

SERVICES = "/api/v1/services"


def names(server: ApiServer) -> list[str]:
    with RawClient(server) as client:
        return [item["metadata"]["name"] for item in client.request(SERVICES).json()["items"]]


def test_restart_keeps_address_certificate_and_objects(api_server: ApiServer) -> None:
    api_server.put(make_service("web"))
    before = (api_server.url, api_server.ca_certificate)
    with RawClient(api_server) as client:
        events = client.watch(f"{SERVICES}?watch=true")
        assert next(events)["type"] == "ADDED"

        api_server.stop()
        with pytest.raises(CUT):
            next(events)
    with RawClient(api_server) as client, pytest.raises(ConnectionRefusedError):
        client.open("/version")

    api_server.start()

    assert (api_server.url, api_server.ca_certificate) == before
    assert names(api_server) == ["web"]


def test_objects_put_while_it_is_down_are_there_when_it_is_up(api_server: ApiServer) -> None:
    api_server.stop()
    api_server.put(make_service("web"))
    api_server.start()

    assert names(api_server) == ["web"]


def test_certificate_of_another_authority_is_not_trusted_by_old_clients(api_server: ApiServer) -> None:
    with RawClient(api_server) as old_client:
        api_server.renew_certificate()
        api_server.stop()
        api_server.start()
        assert old_client.request("/version").code == 200
    with RawClient(api_server) as old_client:
        api_server.renew_certificate(new_authority=True)
        api_server.stop()
        api_server.start()
        with pytest.raises(ssl.SSLCertVerificationError):
            old_client.request("/version")
    assert names(api_server) == []


def test_older_data_after_a_restore(api_server: ApiServer) -> None:
    api_server.put(make_service("old"))
    snapshot = api_server.snapshot()
    api_server.put(make_service("new"))
    seen = api_server.version

    api_server.restore(snapshot)

    assert names(api_server) == ["old"]
    assert api_server.version < seen
    with RawClient(api_server) as client:
        assert client.request(f"{SERVICES}?resourceVersion={seen}&resourceVersionMatch=NotOlderThan").code == 504


def test_new_epoch_of_versions(api_server: ApiServer) -> None:
    api_server.put(make_service("web"))
    with RawClient(api_server) as client:
        events = client.watch(f"{SERVICES}?watch=true")
        next(events)

        api_server.new_epoch()

        with pytest.raises(CUT):
            next(events)
    assert names(api_server) == ["web"]
    assert api_server.version == 2


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_a_good_token(api_server: ApiServer, token: str | None) -> None:
    with RawClient(api_server, token=token) as client:
        assert client.request(SERVICES).code == 401
        assert client.request("/version").code == 401
        assert client.request("/livez").body == b"ok"
    assert api_server.requests.seen("services")[0].user == ""


def test_token_that_changes_at_run_time(api_server: ApiServer) -> None:
    old = api_server.token
    with RawClient(api_server, token=old) as client:
        assert client.request(SERVICES).code == 200
        api_server.rotate_token("new")
        assert client.request(SERVICES).code == 401
        api_server.tokens.add(old)
        assert client.request(SERVICES).code == 200
    with RawClient(api_server) as client:
        assert client.request(SERVICES).code == 200


def test_client_certificate_instead_of_a_token(api_server: ApiServer, tmp_path: Path) -> None:
    pair = api_server.client_certificate("system:node:node-a", "system:nodes")
    (tmp_path / "pair.pem").write_bytes(pair.key + pair.certificate)
    context = ssl.create_default_context(cadata=api_server.ca_certificate.decode())
    context.load_cert_chain(tmp_path / "pair.pem")

    with RawClient(api_server, token=None, context=context) as client:
        assert client.request(SERVICES).code == 200
    assert api_server.requests.seen("services")[0].user == "system:node:node-a"


def test_files_for_clients(api_server: ApiServer, tmp_path: Path) -> None:
    config = from_yaml(api_server.kubeconfig(tmp_path / "kubeconfig").read_text())
    folder = api_server.service_account(tmp_path / "serviceaccount")

    assert config["clusters"][0]["cluster"]["server"] == api_server.url
    assert config["users"][0]["user"] == {"token": api_server.token}
    assert (folder / "token").read_text() == api_server.token
    assert (folder / "ca.crt").read_bytes() == api_server.ca_certificate


def test_anonymous_and_plain_http() -> None:
    with ApiServer(tls=False, settings=Settings(anonymous=True), objects=[make_service("web")]) as server:
        assert server.url.startswith("http://127.0.0.1:")
        with RawClient(server, token=None) as client:
            assert len(client.request(SERVICES).json()["items"]) == 1


def test_who_connects_just_before_the_end_is_cut_too() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def be_busy() -> None:
        busy.set()
        go_on.wait(PATIENCE)

    with ApiServer(tls=False) as server, contextlib.ExitStack() as sockets:
        assert server._runner is not None
        loop = server._runner._loop
        loop.call_soon_threadsafe(be_busy)
        assert busy.wait(PATIENCE)
        clients = [sockets.enter_context(socket.create_connection((server.address, server.port))) for _ in range(5)]
        ending = threading.Thread(target=server.stop)
        ending.start()
        eventually(lambda: loop._ready)  # type: ignore[attr-defined]  # the end has been asked for
        go_on.set()
        ending.join(PATIENCE)
        for client in clients:
            client.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""


def test_ipv6_address() -> None:
    with ApiServer(address="::1", objects=[make_service("web")]) as server:
        assert server.url == f"https://[::1]:{server.port}"
        assert names(server) == ["web"]


def test_port_in_use_is_said_at_once(api_server: ApiServer) -> None:
    second = ApiServer(port=api_server.port)

    with pytest.raises(OSError, match="address already in use"):
        second.start()


def test_methods_need_a_running_server() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        ApiServer().freeze()
