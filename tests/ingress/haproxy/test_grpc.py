"""gRPC by a real client and a real server: calls and streams, both ways, their trailers and their deadlines."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from kproxy.ingress.haproxy.engine import Engine
from tests.ingress.gateways import gateway, route
from tests.ingress.haproxy.kit import slices
from tests.ingress.kit import CLASSES, key_and_certificate, planned, secret

pytestmark = pytest.mark.kernel

HOST = "grpc.example.com"
ADDRESS = "10.1.0.21"
METADATA = (("tenant", "blue"),)


def hello(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("served-by", "a"),))
    return b"hello " + request


def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
    raise AssertionError


def count(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(int(request)):
        yield str(number).encode()


def echo(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield request[::-1]


@contextmanager
def grpc_pod(address: str) -> Iterator[threading.Event]:
    """Run a server of messages without a schema; the event ends the calls that never answer."""
    over = threading.Event()

    def never(request: bytes, _: grpc.ServicerContext) -> bytes:
        over.wait(20)
        return request

    methods = {
        "Hello": grpc.unary_unary_rpc_method_handler(hello),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Never": grpc.unary_unary_rpc_method_handler(never),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", methods),))
    server.add_insecure_port(f"{address}:8080")
    server.start()
    try:
        yield over
    finally:
        over.set()
        server.stop(0).wait()


@pytest.fixture(scope="module", autouse=True)
def pod(running: Engine) -> Iterator[None]:
    """A pod of gRPC behind a listener in clear text and one of TLS."""
    tls = {"name": "tls", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "grpc"}]}}
    there = slices("web", [ADDRESS]).replace("port: 80}", "port: 80, appProtocol: kubernetes.io/h2c}")
    to_web = {"backendRefs": [{"name": "web", "port": 80}]}
    shop = {"matches": [{"path": {"type": "PathPrefix", "value": "/shop.Shop"}}], **to_web}
    short = {"matches": [{"path": {"value": "/shop.Shop/Never"}}], "timeouts": {"request": "300ms"}, **to_web}
    gate = gateway({"name": "http", "port": 8000}, tls)
    made = planned(CLASSES, gate, route(shop, short, hostnames=[HOST]), there, secret("grpc", host=HOST))
    assert running.apply(made.plan).refused == []
    with grpc_pod(ADDRESS):
        yield


@pytest.fixture(params=["clear text", "TLS"])
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    if request.param == "TLS":
        trust = grpc.ssl_channel_credentials(key_and_certificate(HOST)[1].encode())
        options = (("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", HOST))
        made = grpc.secure_channel("127.0.0.1:443", trust, options)
    else:
        made = grpc.insecure_channel("127.0.0.1:8000", (("grpc.default_authority", HOST),))
    with made:
        yield made


def test_a_call_is_answered_with_its_trailers(channel: grpc.Channel) -> None:
    answer, call = channel.unary_unary("/shop.Shop/Hello").with_call(b"you", timeout=10, metadata=METADATA)
    assert answer == b"hello you"
    assert call.code() is grpc.StatusCode.OK
    assert ("served-by", "a") in call.trailing_metadata()


def test_a_refusal_comes_through_as_the_server_said_it(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as told:
        channel.unary_unary("/shop.Shop/Refuse")(b"", timeout=10)
    assert (told.value.code(), told.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")


def test_messages_stream_from_the_server_and_both_ways(channel: grpc.Channel) -> None:
    assert list(channel.unary_stream("/shop.Shop/Count")(b"100", timeout=10)) == [str(n).encode() for n in range(100)]
    answered = threading.Semaphore(0)

    def questions() -> Iterator[bytes]:
        for question in (b"abc", b"def", b"x" * 200_000):
            yield question
            assert answered.acquire(timeout=10)  # each is answered before the next one is asked

    answers = []
    for answer in channel.stream_stream("/shop.Shop/Echo")(questions(), timeout=20):
        answers.append(answer)
        answered.release()
    assert answers == [b"cba", b"fed", b"x" * 200_000]


def test_what_the_engine_answers_by_itself_is_an_error_of_the_clients(channel: grpc.Channel) -> None:
    """By the table that gRPC has for codes of HTTP: 404 is UNIMPLEMENTED, 504 is UNAVAILABLE."""
    with pytest.raises(grpc.RpcError) as told:
        channel.unary_unary("/other.Shop/Hello")(b"", timeout=10)
    assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as told:
        channel.unary_unary("/shop.Shop/Never")(b"", timeout=10)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
