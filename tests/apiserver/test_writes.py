"""Changes over HTTP: what kubectl and the kubernetes package send, and what the test API server makes of it."""

from collections.abc import Iterator

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.objects import make_node, make_service, make_slice
from tests.kit.apiserver.rawclient import RawClient

SHOP = "/api/v1/namespaces/shop/services"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[RawClient]:
    with RawClient(api_server) as client:
        yield client


def bare_service(**spec: object) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}], **spec},
    }


def test_created_object_is_served_and_watched(api_server: ApiServer, client: RawClient) -> None:
    reply = client.request(SHOP, method="POST", body=bare_service())

    assert reply.code == 201
    assert client.request(f"{SHOP}/web").json() == reply.json()
    assert api_server.get("services", "shop", "web") == reply.json()


def test_service_gets_what_the_api_server_fills_in(client: RawClient) -> None:
    spec = client.request(SHOP, method="POST", body=bare_service()).json()["spec"]

    assert spec == {
        "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}],
        "type": "ClusterIP",
        "ipFamilyPolicy": "SingleStack",
        "ipFamilies": ["IPv4"],
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"clusterIP": "10.96.9.9"}, {"clusterIPs": ["10.96.9.9"], "ipFamilies": ["IPv4"]}),
        ({"clusterIP": "fd00::9"}, {"clusterIPs": ["fd00::9"], "ipFamilies": ["IPv6"]}),
        ({"clusterIP": "None"}, {"clusterIPs": ["None"]}),
        ({"ipFamilies": ["IPv6"]}, {"clusterIPs": ["fd00:10:96::1"]}),
        (
            {"ipFamilyPolicy": "PreferDualStack"},
            {"clusterIPs": ["10.96.0.1", "fd00:10:96::1"], "ipFamilies": ["IPv4", "IPv6"]},
        ),
        (
            {"type": "NodePort"},
            {
                "externalTrafficPolicy": "Cluster",
                "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80, "nodePort": 30000}],
            },
        ),
        (
            {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
            {"healthCheckNodePort": 30000, "allocateLoadBalancerNodePorts": True},
        ),
        (
            {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False},
            {"ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}]},
        ),
        (
            {"sessionAffinity": "ClientIP"},
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
        ),
        ({"type": "ExternalName", "externalName": "example.com"}, {"externalName": "example.com"}),
    ],
)
def test_allocation_follows_the_spec(client: RawClient, given: Json, expected: Json) -> None:
    spec = client.request(SHOP, method="POST", body=bare_service(**given)).json()["spec"]

    assert spec == spec | given | expected


def test_addresses_and_node_ports_are_given_once(client: RawClient) -> None:
    first = client.request(SHOP, method="POST", body=bare_service(type="NodePort")).json()
    other = bare_service(type="NodePort") | {"metadata": {"generateName": "web-"}}
    second = client.request(SHOP, method="POST", body=other).json()

    assert second["metadata"]["name"].startswith("web-")
    assert first["spec"]["clusterIP"] != second["spec"]["clusterIP"]
    assert first["spec"]["ports"][0]["nodePort"] != second["spec"]["ports"][0]["nodePort"]


def test_update_keeps_what_was_allocated(client: RawClient) -> None:
    created = client.request(SHOP, method="POST", body=bare_service(type="NodePort")).json()
    new = bare_service(type="NodePort", externalIPs=["192.0.2.1"])

    updated = client.request(f"{SHOP}/web", method="PUT", body=new).json()

    assert updated["spec"] == created["spec"] | {"externalIPs": ["192.0.2.1"]}
    assert updated["metadata"]["uid"] == created["metadata"]["uid"]


def test_update_without_change_makes_no_version(api_server: ApiServer, client: RawClient) -> None:
    created = client.request(SHOP, method="POST", body=bare_service()).json()
    before = api_server.version

    assert client.request(f"{SHOP}/web", method="PUT", body=created).json() == created
    assert api_server.version == before


def test_update_from_an_old_version_is_a_conflict(client: RawClient) -> None:
    created = client.request(SHOP, method="POST", body=bare_service()).json()
    client.request(f"{SHOP}/web", method="PATCH", body={"metadata": {"labels": {"a": "b"}}}, Content_Type=MERGE)

    reply = client.request(f"{SHOP}/web", method="PUT", body=created)

    assert (reply.code, reply.json()["reason"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("content_type", "patch"),
    [
        (MERGE, {"spec": {"ports": [{"name": "a", "port": 80}, {"name": "c", "port": 82}]}}),
        (
            STRATEGIC,
            {
                "spec": {
                    "$setElementOrder/ports": [{"port": 80}, {"port": 82}],
                    "ports": [{"port": 82, "name": "c"}, {"port": 81, "$patch": "delete"}],
                }
            },
        ),
        (
            STRATEGIC,
            {"spec": {"ports": [{"$patch": "replace"}, {"name": "a", "port": 80}, {"name": "c", "port": 82}]}},
        ),
        (
            JSON_PATCH,
            [
                {"op": "test", "path": "/spec/ports/1/port", "value": 81},
                {"op": "remove", "path": "/spec/ports/1"},
                {"op": "add", "path": "/spec/ports/-", "value": {"name": "c", "port": 82}},
            ],
        ),
    ],
)
def test_patches_of_every_kind(
    api_server: ApiServer, client: RawClient, content_type: str, patch: Json | list[Json]
) -> None:
    api_server.put(make_service("web", "shop", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}]))

    reply = client.request(f"{SHOP}/web", method="PATCH", body=patch, Content_Type=content_type)

    assert reply.code == 200
    assert [(port["name"], port["port"]) for port in reply.json()["spec"]["ports"]] == [("a", 80), ("c", 82)]


def test_patch_can_remove_a_field(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_service("web", "shop", labels={"a": "1", "b": "2"}))

    for content_type, patch, expected in (
        (MERGE, {"metadata": {"labels": {"a": None}}}, {"b": "2"}),
        (STRATEGIC, {"metadata": {"labels": {"b": None, "c": "3"}}}, {"c": "3"}),
    ):
        reply = client.request(f"{SHOP}/web", method="PATCH", body=patch, Content_Type=content_type)
        assert reply.json()["metadata"]["labels"] == expected


def test_status_is_changed_through_its_own_path(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_service("web", "shop", type="LoadBalancer"))
    patch = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}, "spec": {"type": "ClusterIP"}}

    reply = client.request(f"{SHOP}/web/status", method="PATCH", body=patch, Content_Type=STRATEGIC)

    assert reply.json()["status"] == patch["status"]
    assert reply.json()["spec"]["type"] == "LoadBalancer"


def test_delete_of_a_service_answers_with_the_service(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_service("web", "shop"))
    before = api_server.get("services", "shop", "web")

    assert client.request(f"{SHOP}/web", method="DELETE").json() == before
    assert api_server.get("services", "shop", "web") is None


def test_delete_answers_with_a_status(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_slice("web", "shop"))
    path = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-1"

    first = client.request(path, method="DELETE")
    second = client.request(path, method="DELETE")

    assert (first.code, first.json()["status"], first.json()["details"]["name"]) == (200, "Success", "web-1")
    assert (second.code, second.json()["reason"]) == (404, "NotFound")
    assert second.json()["message"] == 'endpointslices.discovery.k8s.io "web-1" not found'


def test_events_are_kept_for_the_test_to_see(api_server: ApiServer, client: RawClient) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "node-a.1", "namespace": "default"},
        "reason": "Starting",
    }
    client.request("/apis/events.k8s.io/v1/namespaces/default/events", method="POST", body=event)
    path = "/apis/events.k8s.io/v1/namespaces/default/events/node-a.1"
    client.request(path, method="PATCH", body={"series": {"count": 2}}, Content_Type=MERGE)

    assert [(one["reason"], one["series"]["count"]) for one in api_server.events] == [("Starting", 2)]


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "code"),
    [
        ("POST", SHOP, bare_service() | {"kind": "Node"}, "application/json", 400),
        ("POST", SHOP, bare_service() | {"metadata": {"name": "a", "namespace": "b"}}, "application/json", 400),
        ("POST", SHOP, bare_service() | {"metadata": {}}, "application/json", 422),
        ("POST", SHOP, bare_service() | {"metadata": {"name": "a", "resourceVersion": "7"}}, "application/json", 400),
        ("POST", SHOP, bare_service() | {"metadata": {"name": "there"}}, "application/json", 409),
        ("POST", SHOP, [bare_service()], "application/json", 400),
        ("POST", SHOP, bare_service(), "application/vnd.kubernetes.protobuf", 415),
        ("POST", f"{SHOP}?dryRun=All", bare_service(), "application/json", 400),
        ("POST", f"{SHOP}/there", bare_service(), "application/json", 405),
        ("PUT", f"{SHOP}/web", bare_service(), "application/json", 404),
        ("PUT", f"{SHOP}/there", bare_service(), "application/json", 400),
        ("PUT", SHOP, bare_service(), "application/json", 405),
        ("PATCH", f"{SHOP}/there", {}, "application/apply-patch+yaml", 415),
        ("PATCH", f"{SHOP}/there", [], MERGE, 400),
        ("PATCH", f"{SHOP}/there", [{"op": "remove", "path": "/spec/nothing"}], JSON_PATCH, 422),
        ("PATCH", f"{SHOP}/there", [{"op": "test", "path": "/spec/type", "value": "x"}], JSON_PATCH, 422),
        ("DELETE", SHOP, None, "application/json", 405),
        ("OPTIONS", SHOP, None, "application/json", 405),
    ],
)
def test_bad_change_is_refused_and_changes_nothing(
    api_server: ApiServer,
    client: RawClient,
    method: str,
    path: str,
    body: Json | list[Json] | None,
    content_type: str,
    code: int,
) -> None:
    api_server.put(make_service("there", "shop"))
    api_server.put(make_node("node-a"))
    before = api_server.version

    reply = client.request(path, method=method, body=body, Content_Type=content_type)

    assert (reply.code, reply.json()["code"], reply.json()["kind"]) == (code, code, "Status")
    assert api_server.version == before
