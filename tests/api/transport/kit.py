"""A way to a server that has a name which only proxies can resolve, and what is told where it fails."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import Answer, ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.transport.failures import ApiError, UnreachableError
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.certs import Authority
from tests.kit.apiserver.runner import server_context
from tests.kit.yaml_text import from_yaml, to_yaml

LIST = "/api/v1/services"
NAME = "k8s.corp"
HOSTS = {NAME: "127.0.0.1"}


def kubeconfig(of: ApiServer, folder: Path, user: Mapping[str, Any] | None = None, /, **cluster: Any) -> Path:
    path = of.kubeconfig(folder / "config", url=f"https://{NAME}:{of.port}")
    config = from_yaml(path.read_text())
    config["clusters"][0]["cluster"].update({name.replace("_", "-"): value for name, value in cluster.items()})
    config["users"][0]["user"].update(user or {})
    path.write_text(to_yaml(config))
    return path


def client(path: Path | str = "", environ: Mapping[str, str] | None = None, **options: Any) -> ApiClient:
    return ApiClient(Credentials(AccessOptions(kubeconfig=str(path), environ=environ or {}, **options)))


def failure(api: ApiClient) -> str:
    with pytest.raises(ApiError) as error:
        api.get(LIST, patience=5).read()
    assert str(error.value).isprintable()
    return str(error.value).partition(": ")[2]


@contextmanager
def broken_off(answer: Answer, within: float) -> Iterator[None]:
    """Have a thread wait for the rest of an answer; what the block does is to break that off, in so many seconds."""
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(UnreachableError):
            answer.read()
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    yield
    assert ended.wait(within)
    thread.join()


def tls_of(authority: Authority, *names: str) -> ssl.SSLContext:
    return server_context(authority.issue_server(names), authority.certificate)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A server that has a name which only proxies can resolve."""
    with ApiServer(names=[NAME]) as server:
        yield server
