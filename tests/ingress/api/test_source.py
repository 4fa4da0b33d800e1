"""Watching everything at a real (if small) API server: kinds that are not there, and the Secrets that are named."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import ObjectKey
from kproxy.ingress.api.core import Secret
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.api.source import IngressSource
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import CLASSES, secret, service
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status
from tests.kit.sources.recording import RecordingSink
from tests.kit.sources.watching_world import FAST
from tests.kit.yaml_text import all_from_yaml

CERT, OTHER = ObjectKey("default", "cert"), ObjectKey("default", "other")
QUICK = FAST._replace(absent=0.1, idle=30.0)


@contextmanager
def watching(kubeconfig: Path) -> Iterator[tuple[IngressSource, RecordingSink]]:
    sink = RecordingSink()
    client = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig))))
    source = IngressSource(client, sink, QUICK, fetch_seconds=0.1)
    source.start()
    try:
        yield source, sink
    finally:
        source.stop()


def put(server: ApiServer, *documents: str) -> None:
    for document in documents:
        for raw in all_from_yaml(document):
            server.put(raw)


def certificate_of(sink: RecordingSink, key: ObjectKey = CERT) -> str | None:
    found = sink.state.get(IngressKind.SECRET, {}).get(key)
    return found.data.certificate if isinstance(found, Secret) and found.data else None


def test_everything_arrives(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, CLASSES, gateway({"name": "a"}), route(to("web")), service("web"))
    headless = all_from_yaml(service("headless"))
    for raw in headless:
        if raw["kind"] == "Service":
            raw["spec"]["clusterIP"] = "None"
        raw["metadata"].setdefault("labels", {})["service.kubernetes.io/headless"] = ""
        api_server.put(raw)
    with watching(kubeconfig) as (source, sink):
        sink.wait(lambda: set(sink.state) == set(IngressKind), "all kinds")
        assert sink.names(IngressKind.SERVICE) == {"web", "headless"}
        assert sink.names(IngressKind.ENDPOINT_SLICE) == {"web-1", "headless-1"}
        assert sink.names(IngressKind.HTTP_ROUTE) == {"route"}
        assert len(source.statuses) == len(IngressKind)
        assert all(status.synced for status in source.statuses)


def test_a_server_without_gateway_api_is_asked_again_at_times(api_server: ApiServer, kubeconfig: Path) -> None:
    for resource in ("gatewayclasses", "gateways", "httproutes", "referencegrants"):
        api_server.faults.add(Status(404), resource=resource, times=None)
    with watching(kubeconfig) as (source, sink):
        sink.wait(lambda: set(sink.state) == set(IngressKind), "all kinds")
        assert all(status.failing_since is None for status in source.statuses)
        put(api_server, gateway({"name": "a"}))
        assert sink.names(IngressKind.GATEWAY) == set()
        api_server.faults.clear()
        sink.wait(lambda: sink.names(IngressKind.GATEWAY) == {"gw"}, "the Gateway")


def test_only_named_secrets_are_delivered(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, secret("cert"), secret("other"))
    with watching(kubeconfig) as (source, sink):
        sink.wait(lambda: IngressKind.SECRET in sink.state, "Secrets")
        assert sink.names(IngressKind.SECRET) == set()
        source.name_secrets([CERT])
        sink.wait(lambda: sink.names(IngressKind.SECRET) == {"cert"}, "the named one")
        before = certificate_of(sink)
        put(api_server, secret("cert", host="new.example.com"), secret("other", host="new.example.com"))
        sink.wait(lambda: certificate_of(sink) not in (before, None), "its change")
        source.name_secrets([OTHER])
        sink.wait(lambda: sink.names(IngressKind.SECRET) == {"other"}, "the other one instead")
        assert api_server.delete("secrets", "default", "other")
        sink.wait(lambda: sink.names(IngressKind.SECRET) == set(), "its end")
    query = api_server.requests.seen("secrets", "watch")[0].query
    assert query["fieldSelector"] == "type=kubernetes.io/tls"


def test_a_secret_that_is_named_before_it_exists(api_server: ApiServer, kubeconfig: Path) -> None:
    with watching(kubeconfig) as (source, sink):
        source.name_secrets([CERT])
        api_server.requests.wait("secrets", "get", count=1)
        put(api_server, secret("cert"))
        sink.wait(lambda: sink.names(IngressKind.SECRET) == {"cert"}, "the Secret")


def test_where_watching_is_not_permitted_the_named_ones_are_fetched(api_server: ApiServer, kubeconfig: Path) -> None:
    for denied in ("list", "watch"):
        api_server.faults.add(Status(403), resource="secrets", verb=denied, times=None)
    put(api_server, secret("cert"), secret("other"))
    with watching(kubeconfig) as (source, sink):
        source.name_secrets([CERT])
        sink.wait(lambda: certificate_of(sink) is not None, "the named one")
        before = certificate_of(sink)
        put(api_server, secret("cert", host="new.example.com"))
        sink.wait(lambda: certificate_of(sink) not in (before, None), "its change")
        assert sink.names(IngressKind.SECRET) == {"cert"}
        assert api_server.delete("secrets", "default", "cert")
        sink.wait(lambda: sink.names(IngressKind.SECRET) == set(), "its end")


def test_what_is_denied_is_said_once(api_server: ApiServer, kubeconfig: Path) -> None:
    api_server.faults.add(Status(403), resource="secrets", times=None)
    put(api_server, secret("cert"))
    with watching(kubeconfig) as (source, sink):
        source.name_secrets([CERT])
        sink.wait(lambda: bool(sink.problems), "a word about it")
        api_server.requests.wait("secrets", "get", count=4)
        (problem,) = sink.problems
        assert str(problem) == (
            "Secret default/cert: object: it is named, but this program's ServiceAccount may not get it"
        )
        api_server.faults.clear()
        sink.wait(lambda: sink.names(IngressKind.SECRET) == {"cert"}, "the Secret")


def test_of_a_secret_of_another_type_nothing_is_kept(api_server: ApiServer, kubeconfig: Path) -> None:
    put(api_server, secret("cert").replace("type: kubernetes.io/tls", "type: Opaque"))
    with watching(kubeconfig) as (source, sink):
        source.name_secrets([CERT])
        sink.wait(lambda: sink.names(IngressKind.SECRET) == {"cert"}, "the Secret")
        assert certificate_of(sink) is None
