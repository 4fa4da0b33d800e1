"""The test API server answers kubectl as it needs: its recorded requests, asked once more."""

import re
from collections.abc import Iterator, Mapping

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.kubectl import COMMANDS, Step, ask, begin, recording
from tests.kit.apiserver.objects import make_slice
from tests.kit.apiserver.rawclient import RawClient

STEPS = {step.command: step for step in recording()}
GET, APPLY, CHANGE, PRINT, DESCRIBE, DELETE, WATCH = (command for command, _ in COMMANDS)
ASIDE = ("/openapi/", "/version")
"""What kubectl does without, where there is none; and what a chooser between several of its releases asks first."""


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[RawClient]:
    begin(api_server)
    with RawClient(api_server) as client:
        yield client


def codes(client: RawClient, step: Step) -> Mapping[str, int]:
    """Ask all that a command asked; return the codes of the answers by method and path without its query."""
    replies = {f"{asked.method} {asked.path}": ask(client, asked).code for asked in step.requests}
    return {
        what.partition("?")[0]: code
        for what, code in replies.items()
        if not what.removeprefix("GET ").startswith(ASIDE)
    }


def test_it_gets_to_know_the_server_and_lists(client: RawClient) -> None:
    answers = codes(client, STEPS[GET])
    assert {"GET /api", "GET /apis", "GET /api/v1/services"} <= answers.keys()
    assert set(answers.values()) == {200}
    listed = ask(client, STEPS[GET].requests[-1]).json()
    assert [one["metadata"]["name"] for one in listed["items"]] == ["web"]


def test_it_applies_changes_describes_and_deletes(api_server: ApiServer, client: RawClient) -> None:
    place = "/api/v1/namespaces/shop/services"

    applied = codes(client, STEPS[APPLY])
    assert (applied[f"GET {place}/api"], applied[f"POST {place}"]) == (404, 201)
    made = api_server.get("services", "shop", "api")
    assert made is not None
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": "http"}]

    assert codes(client, STEPS[CHANGE]) == {f"GET {place}/api": 200, f"PATCH {place}/api": 200}
    changed = ask(client, STEPS[PRINT].requests[-1]).json()
    assert changed["spec"]["ports"] == [{"port": 81, "protocol": "TCP", "targetPort": "http"}]

    described = codes(client, STEPS[DESCRIBE])
    assert described == {
        f"GET {place}/api": 200,
        "GET /apis/discovery.k8s.io/v1/namespaces/shop/endpointslices": 200,
        "GET /api/v1/namespaces/shop/events": 200,
    }

    delete = next(one for one in STEPS[DELETE].requests if one.method == "DELETE")
    assert ask(client, delete).code == 200
    assert api_server.get("services", "shop", "api") is None
    assert ask(client, STEPS[DELETE].requests[-1]).code == 404


def test_it_watches(api_server: ApiServer, client: RawClient) -> None:
    *before, watch = STEPS[WATCH].requests
    listed = ask(client, before[-1]).json()
    place = listed["metadata"]["resourceVersion"]
    events = client.watch(re.sub(r"(?<=resourceVersion=)\d+", place, watch.path))
    api_server.put(make_slice("web", endpoints=["10.244.0.6"]))
    api_server.put(make_slice("api", endpoints=["10.244.0.7"]))
    api_server.delete("endpointslices", "default", "web-1")
    api_server.end_watches()
    seen = [(one["type"], one["object"]["metadata"]["name"]) for one in events if one["type"] != "BOOKMARK"]
    assert seen == [("MODIFIED", "web-1"), ("ADDED", "api-1"), ("DELETED", "web-1")]
