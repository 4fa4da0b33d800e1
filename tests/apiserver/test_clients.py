"""The kubernetes package can talk to the test API server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.objects import make_node, make_service, make_slice


@pytest.fixture
def api_client(kubeconfig: Path) -> Iterator[Any]:
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        yield api_client


def test_kubernetes_package_lists_and_changes(api_server: ApiServer, api_client: Any) -> None:
    core = client.CoreV1Api(api_client)
    for name in ("a", "b", "c"):
        api_server.put(make_service(name, "shop"))
    ports = client.V1ServiceSpec(ports=[client.V1ServicePort(port=80)])
    service = client.V1Service(metadata=client.V1ObjectMeta(name="new"), spec=ports)

    created = core.create_namespaced_service("shop", service)
    core.patch_namespaced_service("new", "shop", {"metadata": {"labels": {"tier": "front"}}})
    core.delete_namespaced_service("a", "shop")

    assert created.spec.cluster_ip == "10.96.0.1"
    listed = core.list_service_for_all_namespaces(limit=2)
    assert [one.metadata.name for one in listed.items] == ["b", "c"]
    rest = core.list_service_for_all_namespaces(limit=2, _continue=listed.metadata._continue)
    assert [one.metadata.labels for one in rest.items] == [{"tier": "front"}]


def test_kubernetes_package_watches(api_server: ApiServer, api_client: Any) -> None:
    api_server.put(make_slice("web", endpoints=["10.244.0.5"]))
    slices = client.DiscoveryV1Api(api_client)
    version = slices.list_endpoint_slice_for_all_namespaces().metadata.resource_version
    api_server.put(make_slice("web", endpoints=["10.244.0.6"]))
    api_server.delete("endpointslices", "default", "web-1")

    events = watch.Watch().stream(
        slices.list_endpoint_slice_for_all_namespaces, resource_version=version, timeout_seconds=1
    )

    assert [(event["type"], event["object"].endpoints[0].addresses) for event in events] == [
        ("MODIFIED", ["10.244.0.6"]),
        ("DELETED", ["10.244.0.6"]),
    ]


def test_kubernetes_package_is_told_what_is_wrong(api_server: ApiServer, api_client: Any) -> None:
    core = client.CoreV1Api(api_client)
    with pytest.raises(client.ApiException) as not_found:
        core.read_node("node-a")
    api_server.rotate_token("other")
    with pytest.raises(client.ApiException) as unauthorized:
        core.list_node()

    assert (not_found.value.status, json.loads(not_found.value.body)["reason"]) == (404, "NotFound")
    assert unauthorized.value.status == 401


def test_kubernetes_package_with_a_client_certificate(api_server: ApiServer, tmp_path: Path) -> None:
    api_server.put(make_node("node-a"))
    path = api_server.kubeconfig(tmp_path / "kubeconfig", user="system:node:node-a")

    with config.new_client_from_config(str(path)) as api_client:
        nodes = client.CoreV1Api(api_client).list_node().items

    assert [node.metadata.name for node in nodes] == ["node-a"]
    assert api_server.requests.seen("nodes", "list")[0].user == "system:node:node-a"


def test_kubernetes_package_reports_events(api_server: ApiServer, api_client: Any) -> None:
    core = client.CoreV1Api(api_client)
    event = client.CoreV1Event(
        metadata=client.V1ObjectMeta(generate_name="node-a."),
        involved_object=client.V1ObjectReference(kind="Node", name="node-a"),
        reason="Starting",
    )
    core.create_namespaced_event("default", event)

    assert [one["reason"] for one in api_server.events] == ["Starting"]
    found = core.list_namespaced_event("default", field_selector="involvedObject.name=node-a").items
    assert len(found) == 1
