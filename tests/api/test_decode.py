"""Decoding: what the API server sends becomes typed objects, and what makes no sense is left out by name."""

import json
from typing import Any

import msgspec
import pytest

from kproxy.api.decode import DecodeError, decode_event, decode_object, decode_page, decode_status
from kproxy.api.kinds import Kind
from kproxy.api.types import EndpointSlice, Node, ObjectKey, ObjectMeta, Service, ServicePortSpec
from kproxy.api.wire import Added, Bookmark, Deleted, Error, Modified

WEB = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "resourceVersion": "7",
        "labels": {"app": "web", "service.kubernetes.io/service-proxy-name": "other"},
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
    },
    "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80, "targetPort": "www"}]},
}


def web(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def decode_service(value: object) -> tuple[Service | None, list[str]]:
    decoded = decode_object(Kind.SERVICE, encode(value))
    assert decoded.object is None or isinstance(decoded.object, Service)
    return decoded.object, [str(problem) for problem in decoded.problems]


def test_object() -> None:
    service, problems = decode_service(WEB)
    assert service is not None
    assert problems == []
    assert service.metadata.key == ObjectKey("shop", "web")
    assert service.metadata.labels is not None
    assert service.metadata.labels.proxy_name == "other"
    assert service.spec.ports == (ServicePortSpec(80, "http"),)


@pytest.mark.parametrize(
    ("spec", "kept", "problem"),
    [
        ({"ports": "http"}, {}, "spec.ports: expected a list, not 'http'"),
        (
            {"ports": [{"port": 80}, {"port": "443"}]},
            {"ports": [{"port": 80}]},
            "spec.ports[1].port: expected a whole number, not '443'",
        ),
        ({"ports": [{"name": "a"}, {"port": 1}]}, {"ports": [{"port": 1}]}, "spec.ports[0].port: missing"),
        ({"ports": [None, {"port": 1}]}, {"ports": [{"port": 1}]}, "spec.ports[0]: expected an object, not null"),
        ({"ports": [{"port": 80.5}]}, {"ports": []}, "spec.ports[0].port: expected a whole number, not 80.5"),
        ({"ports": [{"port": True}]}, {"ports": []}, "spec.ports[0].port: expected a whole number, not true"),
        (
            {"ports": [{"port": 80, "nodePort": "x"}]},
            {"ports": [{"port": 80}]},
            "spec.ports[0].nodePort: expected a whole number, not 'x'",
        ),
        (
            {"externalIPs": ["192.0.2.1", 7, {}]},
            {"externalIPs": ["192.0.2.1"]},
            "spec.externalIPs[1]: expected a string, not 7",
        ),
        ({"clusterIP": ["10.0.0.1"]}, {}, "spec.clusterIP: expected a string, not a list"),
        (
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": {}}}, "type": "ClusterIP"},
            {"sessionAffinityConfig": {"clientIP": {}}, "type": "ClusterIP"},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: expected a whole number, not an object",
        ),
        (
            {"type": "a\nb\x1b[31m" + "c" * 500, "ports": 1},
            {"type": "a\nb\x1b[31m" + "c" * 500},
            "spec.ports: expected a list, not 1",
        ),
        (
            {"clusterIP": {}, "type": None, "ports": None},
            {},
            "spec.clusterIP: expected a string, not an object",
        ),
    ],
)
def test_bad_part_is_left_out_and_named(spec: dict[str, Any], kept: dict[str, Any], problem: str) -> None:
    service, problems = decode_service(web(**spec))
    assert service == decode_service(web(**kept))[0]
    assert problems[0] == f"Service shop/web: {problem}"


def test_values_in_problems_are_short_and_on_one_line() -> None:
    _, problems = decode_service(web(ports="a\nb\x1b[31m\u2028" + "c" * 500))
    shown = "a\\nb\\x1b[31m\\u2028" + "c" * 71
    assert problems == [f"Service shop/web: spec.ports: expected a list, not '{shown}…'"]


def test_names_in_problems_are_escaped() -> None:
    decoded = decode_object(Kind.SERVICE, encode({"metadata": {"name": "a\nb"}, "spec": 1}))
    assert str(decoded.problems[0]) == "Service a\\nb: spec: expected an object, not 1"


def test_bad_label_is_named_as_one_key() -> None:
    _, problems = decode_service({"metadata": {"name": "x", "labels": {"service.kubernetes.io/headless": 1}}})
    assert problems == ['Service x: metadata.labels["service.kubernetes.io/headless"]: expected a string, not 1']


def test_nulls_count_as_absent() -> None:
    nulls = {"metadata": {"name": "web", "namespace": None, "labels": None}, "spec": None, "status": None}
    assert decode_service(nulls) == decode_service({"metadata": {"name": "web"}})
    assert decode_service(nulls)[1] == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"spec": {}}, "Service : metadata.name: missing; an object without a name is left out"),
        (
            {"metadata": {"namespace": "shop"}},
            "Service shop/: metadata.name: missing; an object without a name is left out",
        ),
        ({"metadata": {"name": 5}}, "Service : metadata.name: expected a string, not 5"),
        ({"metadata": []}, "Service : metadata: expected an object, not a list"),
        ("web", "Service : object: expected an object, not 'web'"),
        (None, "Service : object: expected an object, not null"),
    ],
)
def test_object_without_a_usable_name_is_left_out(value: object, problem: str) -> None:
    service, problems = decode_service(value)
    assert service is None
    assert problems[0] == problem


def test_numbers_beyond_reason() -> None:
    data = b'{"metadata": {"name": "x"}, "spec": {"healthCheckNodePort": %s, "type": "LoadBalancer"}}'
    for number in (b"1e999", b"9" * 5000, b"-" + b"9" * 5000):
        decoded = decode_object(Kind.SERVICE, data % number)
        assert isinstance(decoded.object, Service)
        assert decoded.object.spec.type == "LoadBalancer"
        assert [problem.field for problem in decoded.problems] == ["spec.healthCheckNodePort"]


def test_broken_unicode() -> None:
    data = rb'{"metadata": {"name": "x"}, "spec": {"clusterIP": "\ud800", "type": "NodePort"}}'
    decoded = decode_object(Kind.SERVICE, data)
    assert isinstance(decoded.object, Service)
    assert decoded.object.spec == msgspec.convert({"type": "NodePort"}, type(decoded.object.spec))
    assert [problem.reason for problem in decoded.problems] == ["'\\ud800' is not valid Unicode"]


@pytest.mark.parametrize("data", [b"", b"{", b"\x00", b'{"metadata": ', b"[" * 100_000])
def test_no_json(data: bytes) -> None:
    for decode in (decode_object, decode_page, decode_event):
        with pytest.raises(DecodeError):
            decode(Kind.SERVICE, data)


def test_page() -> None:
    items = [WEB, {"metadata": {"name": "b"}}]
    page = decode_page(Kind.SERVICE, encode({"metadata": {"resourceVersion": "9", "continue": "t"}, "items": items}))
    assert [obj.metadata.name for obj in page.objects] == ["web", "b"]
    assert (page.resource_version, page.continue_token, page.problems) == ("9", "t", ())


@pytest.mark.parametrize("items", [[], None])
def test_empty_page(items: list[Any] | None) -> None:
    page = decode_page(Kind.SERVICE, encode({"metadata": {"resourceVersion": "9"}, "items": items}))
    assert page == ((), (), "9", "")


def test_bad_object_in_a_page_leaves_the_others_alone() -> None:
    items: list[Any] = [WEB, web(ports=5), None, {"metadata": {}}, {"metadata": {"name": "last"}}]
    page = decode_page(Kind.SERVICE, encode({"metadata": {"resourceVersion": "9"}, "items": items}))
    assert [obj.metadata.name for obj in page.objects] == ["web", "web", "last"]
    assert page.objects[0] == decode_service(WEB)[0]
    assert [problem.field for problem in page.problems] == ["spec.ports", "object", "metadata.name"]


def test_nameless_object_in_a_sound_page_is_left_out() -> None:
    page = decode_page(Kind.NODE, encode({"metadata": {}, "items": [{"metadata": {"name": "n"}}, {}]}))
    assert page.objects == (Node(metadata=ObjectMeta(name="n")),)
    assert [problem.field for problem in page.problems] == ["metadata.name"]


def test_bad_unicode_in_a_page_leaves_the_others_alone() -> None:
    items: list[Any] = [WEB, web(clusterIP="\ud800"), {"metadata": {"name": "last"}}]
    page = decode_page(Kind.SERVICE, encode({"metadata": {"resourceVersion": "9", "continue": "t"}, "items": items}))
    assert page.objects == tuple(decode_service(item)[0] for item in [WEB, web(), {"metadata": {"name": "last"}}])
    assert (page.resource_version, page.continue_token) == ("9", "t")
    assert [problem.field for problem in page.problems] == ["spec.clusterIP"]


@pytest.mark.parametrize("data", [{"metadata": {}, "items": {}}, {"items": []}, [], {"kind": "Status"}, "x"])
def test_no_list(data: object) -> None:
    with pytest.raises(DecodeError, match="list of services"):
        decode_page(Kind.SERVICE, encode(data))


@pytest.mark.parametrize(("name", "event_type"), [("ADDED", Added), ("MODIFIED", Modified), ("DELETED", Deleted)])
@pytest.mark.parametrize("spec", [{"clusterIP": "10.0.0.1"}, {"clusterIP": "10.0.0.1", "ports": 4}])
def test_event(name: str, event_type: type[Any], spec: dict[str, Any]) -> None:
    event, problems = decode_event(Kind.SERVICE, encode({"type": name, "object": web(**spec)}))
    assert isinstance(event, event_type)
    assert event.object == decode_service(web(clusterIP="10.0.0.1"))[0]
    assert len(problems) == ("ports" in spec)


def test_event_with_the_type_behind_the_object() -> None:
    event, _ = decode_event(Kind.SERVICE, encode({"object": WEB, "type": "ADDED"}))
    assert isinstance(event, Added)


@pytest.mark.parametrize("obj", [{}, {"metadata": {"name": 3}}, "x", None])
def test_event_with_an_unusable_object_is_left_out(obj: object) -> None:
    event, problems = decode_event(Kind.SERVICE, encode({"type": "ADDED", "object": obj}))
    assert event is None
    assert len(problems) == 1


@pytest.mark.parametrize(("annotations", "ends"), [(None, False), ({"k8s.io/initial-events-end": "true"}, True)])
def test_bookmark(annotations: dict[str, str] | None, ends: bool) -> None:
    obj = {"kind": "Service", "metadata": {"resourceVersion": "12", "annotations": annotations}, "spec": {}}
    event, _ = decode_event(Kind.SERVICE, encode({"type": "BOOKMARK", "object": obj}))
    assert isinstance(event, Bookmark)
    assert (event.resource_version, event.ends_initial_events) == ("12", ends)


@pytest.mark.parametrize("details", [None, {"retryAfterSeconds": 3}, {"retryAfterSeconds": "soon"}])
def test_error_event(details: dict[str, Any] | None) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old", "details": details}
    event, _ = decode_event(Kind.SERVICE, encode({"type": "ERROR", "object": status}))
    assert isinstance(event, Error)
    assert (event.object.code, event.object.reason, event.object.message) == (410, "Expired", "too old")


@pytest.mark.parametrize(
    "value", [{"type": "SPLICED", "object": WEB}, {"type": 1}, {}, [], 7, {"type": "ERROR"}, {"type": "BOOKMARK"}]
)
def test_no_event(value: object) -> None:
    with pytest.raises(DecodeError):
        decode_event(Kind.SERVICE, encode(value))


def test_status() -> None:
    status = decode_status(encode({"kind": "Status", "code": 403, "message": "services is forbidden", "details": 1}))
    assert status is not None
    assert (status.code, status.message, status.details) == (403, "services is forbidden", None)
    assert decode_status(b"<html>502 Bad Gateway</html>") is None
    assert decode_status(b"[]") is None


def test_every_kind_decodes_into_its_own_struct() -> None:
    assert isinstance(decode_object(Kind.ENDPOINT_SLICE, b'{"metadata":{"name":"x"}}').object, EndpointSlice)
    for kind in Kind:
        assert type(decode_object(kind, b'{"metadata":{"name":"x"}}').object) is kind.struct
