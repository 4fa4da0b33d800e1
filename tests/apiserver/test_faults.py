"""Each fault of the test API server, as a client sees it on the wire."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import (
    Corrupt,
    Cut,
    Drip,
    Duplicate,
    End,
    EndStream,
    ErrorEvent,
    Fault,
    Hang,
    Mangler,
    Replay,
    Reset,
    Send,
    Silence,
    Status,
    Swap,
    Truncate,
)
from tests.kit.apiserver.objects import make_service
from tests.kit.apiserver.rawclient import CUT, RawClient, read_lines
from tests.kit.apiserver.rest.watching import Frame

SERVICES = "/api/v1/services"
STREAMING = f"{SERVICES}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
SHORT = 0.5  # seconds that a client here waits for bytes which must not come


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[RawClient]:
    with RawClient(api_server) as client:
        yield client


def brief(line: bytes) -> str:
    """One line of a watch in short: type and name, or what it is instead."""
    try:
        event = json.loads(line)
    except ValueError:
        return "broken"
    meta = event["object"].get("metadata", {})
    return f"{event['type']} {meta.get('name', '')}".strip()


def read_watch(client: RawClient, server: ApiServer, *, silent: bool) -> list[str]:
    """All lines of a watch on services a, b, c, from their streaming list to a change of a; and how it ended.

    ``silent``: expect it to fall silent after some lines.
    """
    lines: list[str] = []
    response = client.open(STREAMING)
    try:
        for line in read_lines(response):
            lines.append(brief(line))
            if silent:
                client.be_impatient(SHORT)
            if lines.count("BOOKMARK") == 1 and lines[-1] == "BOOKMARK":
                server.put(make_service("a", cluster_ip="10.96.0.77"))
                server.send_bookmarks()
                server.end_watches()
    except CUT:
        return [*lines, "reset"]
    except TimeoutError:
        return [*lines, "silence"]
    return [*lines, "end"]


INITIAL = ["ADDED a", "ADDED b", "ADDED c"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (None, [*INITIAL, "BOOKMARK", "MODIFIED a", "BOOKMARK", "end"]),
        (Reset(at=0), ["reset"]),
        (Reset(after=1), ["ADDED a", "broken", "reset"]),
        (Reset(after=3, frame="event"), [*INITIAL, "BOOKMARK", "broken", "reset"]),
        (Reset(frame="bookmark"), [*INITIAL, "broken", "reset"]),
        (Reset(frame="bookmark", after=1), [*INITIAL, "BOOKMARK", "MODIFIED a", "broken", "reset"]),
        (Truncate(after=1), ["ADDED a", "broken", "end"]),
        (Truncate(frame="bookmark"), [*INITIAL, "broken", "end"]),
        (Corrupt(after=1), ["ADDED a", "broken", "ADDED c", "BOOKMARK", "MODIFIED a", "BOOKMARK", "end"]),
        (Corrupt(after=3, frame="event"), [*INITIAL, "BOOKMARK", "broken", "BOOKMARK", "end"]),
        (EndStream(after=2), ["ADDED a", "ADDED b", "end"]),
        (EndStream(), ["end"]),
        (ErrorEvent(410), ["ERROR", "end"]),
        (ErrorEvent(500, after=3), [*INITIAL, "ERROR", "end"]),
        (Silence(after=2), ["ADDED a", "ADDED b", "silence"]),
        (Silence(after=3, frame="event"), [*INITIAL, "BOOKMARK", "silence"]),
        (Silence(seconds=0.01), [*INITIAL, "BOOKMARK", "MODIFIED a", "BOOKMARK", "end"]),
        (Drip(size=7, pause=0), [*INITIAL, "BOOKMARK", "MODIFIED a", "BOOKMARK", "end"]),
        (
            Duplicate(frame="event"),
            [
                *("ADDED a", "ADDED a", "ADDED b", "ADDED b", "ADDED c", "ADDED c", "BOOKMARK"),
                *("MODIFIED a", "MODIFIED a", "BOOKMARK", "end"),
            ],
        ),
        (Replay(after=3), [*INITIAL, "BOOKMARK", "MODIFIED a", "ADDED c", "BOOKMARK", "end"]),
        (Swap(after=1), ["ADDED a", "ADDED c", "ADDED b", "BOOKMARK", "MODIFIED a", "BOOKMARK", "end"]),
    ],
    ids=repr,
)
def test_fault_in_a_watch(api_server: ApiServer, fault: Fault | None, expected: list[str]) -> None:
    api_server.settings.bookmark_period = None
    for name in ("a", "b", "c"):
        api_server.put(make_service(name))
    if fault is not None:
        api_server.faults.add(fault, resource="services", verb="watch")

    with RawClient(api_server) as client:
        assert read_watch(client, api_server, silent=expected[-1] == "silence") == expected


def cut_list(client: RawClient) -> None:
    response = client.open(SERVICES)
    assert response.status == 200
    with pytest.raises(CUT):
        response.read()


def truncated_list(client: RawClient) -> None:
    reply = client.request(SERVICES)
    assert (reply.code, reply.body[:20]) == (200, b'{"kind":"ServiceList')
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        reply.json()


def corrupt_list(client: RawClient) -> None:
    reply = client.request(SERVICES)
    assert reply.code == 200
    with pytest.raises(ValueError, match=r"Expecting|decode"):
        reply.json()


def silent_list(client: RawClient) -> None:
    response = client.open(SERVICES)
    client.be_impatient(SHORT)
    with pytest.raises(TimeoutError):
        response.read()


def hung_list(client: RawClient) -> None:
    client.connection.timeout = SHORT
    with pytest.raises(TimeoutError):
        client.open(SERVICES)


def whole_list(client: RawClient) -> None:
    assert len(client.request(SERVICES).json()["items"]) == 3


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (Reset(), cut_list),
        (Reset(at=0), cut_list),
        (Truncate(), truncated_list),
        (Corrupt(), corrupt_list),
        (Silence(), silent_list),
        (Hang(), hung_list),
        (Hang(seconds=0.01), whole_list),
        (Drip(size=100, pause=0), whole_list),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_fault_in_a_list(api_server: ApiServer, fault: Fault, check: Callable[[RawClient], None]) -> None:
    for name in ("a", "b", "c"):
        api_server.put(make_service(name))
    rule = api_server.faults.add(fault, resource="services", verb="list")

    with RawClient(api_server) as client:
        check(client)
    with RawClient(api_server) as client:
        whole_list(client)  # a fault happens as often as was said, once here
    assert rule.hits == 1


@pytest.mark.parametrize("verb", ["list", "watch", "get", "create", "update", "patch", "delete"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (410, "Expired"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
    ],
)
def test_status_instead_of_an_answer(
    api_server: ApiServer, client: RawClient, verb: str, code: int, reason: str
) -> None:
    api_server.put(make_service("web"))
    path, method = {
        "list": (SERVICES, "GET"),
        "watch": (f"{SERVICES}?watch=true", "GET"),
        "get": ("/api/v1/namespaces/default/services/web", "GET"),
        "create": ("/api/v1/namespaces/default/services", "POST"),
        "update": ("/api/v1/namespaces/default/services/web", "PUT"),
        "patch": ("/api/v1/namespaces/default/services/web", "PATCH"),
        "delete": ("/api/v1/namespaces/default/services/web", "DELETE"),
    }[verb]
    api_server.faults.add(Status(code, retry_after=3), resource="services", verb=verb)

    reply = client.request(path, method=method)

    assert (reply.code, reply.json()["reason"], reply.headers["retry-after"]) == (code, reason, "3")
    assert api_server.get("services", "default", "web") is not None


def test_status_without_retry_after(api_server: ApiServer, client: RawClient) -> None:
    api_server.faults.add(Status(503, message="the server is shutting down"))

    reply = client.request(SERVICES)

    assert "retry-after" not in reply.headers
    assert reply.json()["message"] == "the server is shutting down"


def test_fault_meets_only_whom_it_is_meant_for(api_server: ApiServer, client: RawClient) -> None:
    for name in ("a", "b", "c"):
        api_server.put(make_service(name))
    expired = api_server.faults.add(Status(410), resource="svc", verb="list", param="continue")
    twice = api_server.faults.add(Status(500), resource="nodes", times=2)

    assert client.request(f"{SERVICES}?limit=1").code == 200
    token = client.request(f"{SERVICES}?limit=1").json()["metadata"]["continue"]
    reply = client.request(f"{SERVICES}?continue={token}")
    assert (reply.code, "continue parameter is too old" in reply.json()["message"]) == (410, True)
    assert client.request(f"{SERVICES}?continue={token}").code == 200
    assert [client.request("/api/v1/nodes").code for _ in range(3)] == [500, 500, 200]
    assert (expired.hits, twice.hits) == (1, 2)


def test_fault_for_good_until_it_is_cleared(api_server: ApiServer, client: RawClient) -> None:
    api_server.faults.add(Status(429, retry_after=1), times=None)
    assert [client.request(SERVICES).code for _ in range(5)] == [429] * 5

    api_server.faults.clear()

    assert client.request(SERVICES).code == 200


def test_duplicate_of_a_fault_comes_with_its_own_bytes() -> None:
    """The pure part: frames in, actions out."""
    frames = [Frame("ADDED", b"one\n"), Frame("BOOKMARK", b"mark\n"), Frame("MODIFIED", b"two\n")]
    mangler = Mangler(Reset(frame="event", after=1, at=0.5))

    actions = [action for frame in frames for action in mangler.actions(frame)]

    assert actions == [Send(b"one\n"), Send(b"mark\n"), Send(b"tw"), Cut()]
    assert list(Mangler(EndStream()).opening()) == [End()]
    assert list(Mangler(None).opening()) == []


def test_frozen_server_accepts_and_says_nothing(api_server: ApiServer) -> None:
    """Neither an open watch nor a new connection gets a byte; what was held back comes after the thaw."""
    with RawClient(api_server) as watcher, RawClient(api_server, timeout=SHORT) as late:
        response = watcher.open(f"{SERVICES}?watch=true")
        watcher.be_impatient(SHORT)
        api_server.freeze()
        api_server.put(make_service("web"))

        with pytest.raises(TimeoutError):
            response.readline()
        with pytest.raises(TimeoutError):
            late.open("/version")
    with RawClient(api_server) as patient:
        thaw = threading.Timer(SHORT, api_server.thaw)
        thaw.start()
        assert patient.request("/version").code == 200
        thaw.join()


def test_black_hole_takes_connections_and_never_greets(api_server: ApiServer) -> None:
    with RawClient(api_server) as before:
        assert before.request("/version").code == 200
        api_server.black_hole()

        with RawClient(api_server, timeout=SHORT) as client, pytest.raises(TimeoutError):
            client.open("/version")
        assert before.request("/version").code == 200
        api_server.accept()
        with RawClient(api_server) as client:
            assert client.request("/version").code == 200


def test_refused_while_open_connections_go_on(api_server: ApiServer) -> None:
    with RawClient(api_server) as before:
        assert before.request("/version").code == 200
        api_server.refuse()

        with RawClient(api_server) as client, pytest.raises(ConnectionRefusedError):
            client.open("/version")
        assert before.request("/version").code == 200
        api_server.accept()
        with RawClient(api_server) as client:
            assert client.request("/version").code == 200


def test_all_connections_cut(api_server: ApiServer, client: RawClient) -> None:
    events = client.watch(f"{SERVICES}?watch=true")

    api_server.cut_connections()

    with pytest.raises(CUT):
        next(events)
    api_server.requests.wait_open("services", count=0)


def test_reset_is_a_reset_on_the_wire() -> None:
    """Through TLS, Python's clients can't tell RST from FIN; without, they can."""
    with ApiServer(tls=False) as server, RawClient(server) as client:
        server.faults.add(Reset(), verb="list")
        response = client.open(SERVICES)

        with pytest.raises(ConnectionResetError):
            response.read()
