"""Lists of the test API server: pages, versions, selectors, and everything it refuses, over HTTPS."""

import gzip
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.objects import make_cluster, make_node, make_service, make_slice
from tests.kit.apiserver.rawclient import RawClient

SERVICES = "/api/v1/services"


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[RawClient]:
    with RawClient(api_server) as client:
        yield client


def put_services(server: ApiServer, *names: str, namespace: str = "shop") -> int:
    return [server.put(make_service(name, namespace)) for name in names][-1]


def names_of(items: list[Json]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def list_names(client: RawClient, path: str) -> list[str]:
    return names_of(client.request(path).json()["items"])


def test_pages_show_one_moment_whatever_changes_meanwhile(api_server: ApiServer, client: RawClient) -> None:
    version = put_services(api_server, "a", "b", "c", "d", "e")
    first = client.request(f"{SERVICES}?limit=2").json()
    api_server.delete("services", "shop", "c")
    put_services(api_server, "d", "bb", "z")

    second = client.request(f"{SERVICES}?limit=2&continue={first['metadata']['continue']}").json()
    third = client.request(f"{SERVICES}?limit=2&continue={second['metadata']['continue']}").json()

    assert [names_of(page["items"]) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert [page["metadata"].get("remainingItemCount") for page in (first, second, third)] == [3, 1, None]
    assert {page["metadata"]["resourceVersion"] for page in (first, second, third)} == {str(version)}
    assert "continue" not in third["metadata"]
    assert list_names(client, SERVICES) == ["a", "b", "bb", "d", "e", "z"]


def test_selected_pages_are_full_and_say_nothing_of_the_rest(api_server: ApiServer, client: RawClient) -> None:
    for number in range(6):
        api_server.put(make_service(f"s{number}", labels={"odd": str(number % 2)}))
    query = f"{SERVICES}?limit=2&labelSelector={quote('odd=1')}"

    first = client.request(query).json()
    second = client.request(f"{query}&continue={first['metadata']['continue']}").json()

    assert names_of(first["items"]) == ["s1", "s3"]
    assert names_of(second["items"]) == ["s5"]
    assert "remainingItemCount" not in first["metadata"]
    assert "continue" not in second["metadata"]


def test_expired_continue_token_names_itself_and_offers_another(api_server: ApiServer, client: RawClient) -> None:
    put_services(api_server, "a", "b", "c")
    token = client.request(f"{SERVICES}?limit=1").json()["metadata"]["continue"]
    put_services(api_server, "aa", "d")
    api_server.compact()

    reply = client.request(f"{SERVICES}?limit=1&continue={token}")

    assert (reply.code, reply.json()["reason"]) == (410, "Expired")
    assert "continue parameter is too old" in reply.json()["message"]
    inconsistent = reply.json()["metadata"]["continue"]
    assert list_names(client, f"{SERVICES}?continue={inconsistent}") == ["aa", "b", "c", "d"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("resourceVersion=0", ["a", "b", "c"]),
        ("resourceVersion=0&limit=1", ["a", "b", "c"]),
        ("resourceVersion={first}", ["a", "b", "c"]),
        ("resourceVersion={first}&resourceVersionMatch=NotOlderThan", ["a", "b", "c"]),
        ("resourceVersion={first}&resourceVersionMatch=Exact", ["a"]),
        ("resourceVersion={first}&limit=5", ["a"]),
    ],
)
def test_version_asked_for(api_server: ApiServer, client: RawClient, query: str, expected: list[str]) -> None:
    first = put_services(api_server, "a")
    put_services(api_server, "b", "c")

    assert list_names(client, f"{SERVICES}?{query.format(first=first)}") == expected


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ("resourceVersion=999999999", 504, "Timeout"),
        ("resourceVersion=1&resourceVersionMatch=Exact", 410, "Expired"),
        ("resourceVersion=x", 400, "BadRequest"),
        ("resourceVersionMatch=Exact", 422, "Invalid"),
        ("resourceVersion=1&resourceVersionMatch=Newer", 422, "Invalid"),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422, "Invalid"),
        ("sendInitialEvents=true", 422, "Invalid"),
        ("continue=nonsense", 400, "BadRequest"),
        ("limit=many", 400, "BadRequest"),
        ("labelSelector=a%3D%3D%3Db", 400, "BadRequest"),
        ("fieldSelector=spec.ports%3D80", 400, "BadRequest"),
    ],
)
def test_refused(api_server: ApiServer, client: RawClient, query: str, code: int, reason: str) -> None:
    put_services(api_server, "a")

    reply = client.request(f"{SERVICES}?{query}")

    status = reply.json()
    assert (reply.code, status["code"], status["reason"], status["kind"]) == (code, code, reason, "Status")


def test_selectors_of_a_proxy(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_service("plain"))
    api_server.put(make_service("foreign", labels={"service.kubernetes.io/service-proxy-name": "other"}))
    api_server.put(make_service("headless", cluster_ip="None"))
    api_server.put(make_slice("plain", endpoints=["10.244.0.5"]))
    api_server.put(make_slice("headless", labels={"service.kubernetes.io/headless": ""}))
    for name in ("node-a", "node-b"):
        api_server.put(make_node(name))

    labels = quote("!service.kubernetes.io/service-proxy-name")
    assert list_names(client, f"{SERVICES}?labelSelector={labels}") == ["headless", "plain"]
    assert list_names(client, f"{SERVICES}?labelSelector={labels}&fieldSelector=spec.clusterIP!%3DNone") == ["plain"]
    slices = f"/apis/discovery.k8s.io/v1/endpointslices?labelSelector={quote('!service.kubernetes.io/headless')}"
    assert list_names(client, slices) == ["plain-1"]
    assert list_names(client, "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-b") == ["node-b"]


def test_namespaces_are_kept_apart(api_server: ApiServer, client: RawClient) -> None:
    for namespace in ("shop", "shop-2", "sho"):
        put_services(api_server, "web", namespace=namespace)

    page = client.request("/api/v1/namespaces/shop/services?limit=1").json()

    assert [item["metadata"]["namespace"] for item in page["items"]] == ["shop"]
    assert "continue" not in page["metadata"]
    everywhere = client.request(SERVICES).json()["items"]
    assert [item["metadata"]["namespace"] for item in everywhere] == ["sho", "shop-2", "shop"]  # etcd's order of keys


def test_large_list_is_compressed_for_those_who_ask(api_server: ApiServer, client: RawClient) -> None:
    api_server.replace_all(make_cluster(400, 5))

    plain = client.request(SERVICES)
    packed = client.request(SERVICES, Accept_Encoding="gzip")

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(plain.json()["items"]) == 400


def test_requests_are_logged_with_their_query(api_server: ApiServer, client: RawClient) -> None:
    client.request(f"{SERVICES}?limit=500&labelSelector={quote('!a')}", User_Agent="test/1")
    client.request("/version")

    request = api_server.requests.seen("services", "list")[0]
    assert request.query == {"limit": "500", "labelSelector": "!a"}
    assert request.user_agent == "test/1"
    assert api_server.requests.count("services", "list") == 1
    assert api_server.requests.count() == 2
