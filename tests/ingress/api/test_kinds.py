"""Decoding the kinds of the ingress program: whole objects, odd ones, and older versions in manifests."""

import msgspec
import pytest

from kproxy.api.decode import convert_object, decode_page
from kproxy.api.kinds import Kind
from kproxy.api.manifests import combine, read_manifest
from kproxy.api.types import EndpointSlice, ObjectKey
from kproxy.ingress.api.core import BackendService, Secret
from kproxy.ingress.api.gateway import Gateway, ReferenceGrant
from kproxy.ingress.api.httproute import HTTPRoute
from kproxy.ingress.api.kinds import IngressKind
from tests.ingress.gateways import gateway, grant, route, to
from tests.ingress.kit import CLASSES, secret, service


def test_every_kind_has_a_decoder_and_a_path() -> None:
    for kind in IngressKind:
        page = decode_page(kind, b'{"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "x"}}]}')
        assert [obj.metadata.name for obj in page.objects] == ["x"]
        assert type(page.objects[0]) is kind.struct
    assert IngressKind.GATEWAY.path == "/apis/gateway.networking.k8s.io/v1/gateways"
    assert IngressKind.REFERENCE_GRANT.path == "/apis/gateway.networking.k8s.io/v1beta1/referencegrants"


def test_the_service_proxys_kinds_are_not_disturbed() -> None:
    data = b'{"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80, "appProtocol": "h2c", "targetPort": "web"}]}}'
    raw = msgspec.json.decode(data)
    assert type(convert_object(Kind.SERVICE, raw).object) is Kind.SERVICE.struct
    ours = convert_object(IngressKind.SERVICE, raw)
    assert isinstance(ours.object, BackendService)
    assert not ours.problems
    (port,) = ours.object.spec.ports or ()
    assert (port.app_protocol, port.target_port) == ("h2c", "web")
    assert convert_object(IngressKind.SERVICE, {"metadata": {"name": "x"}, "spec": {"type": 5, "ports": [
        {"port": 80, "targetPort": "web"}]}}).problems[0].field == "spec.type"  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        ({"spec": {"listeners": [{"name": "a"}, {"name": "b", "port": 80}]}}, ["spec.listeners[0].port"]),
        ({"spec": {"listeners": [{"name": "b", "port": "80"}]}}, ["spec.listeners[0].port"]),
        ({"metadata": {"name": "x", "generation": "5"}}, ["metadata.generation"]),
        ({"spec": {"infrastructure": {"labels": {"a": 5, "b": "c"}}}}, ['spec.infrastructure.labels["a"]']),
        ({"spec": {"infrastructure": {"labels": []}}}, ["spec.infrastructure.labels"]),
    ],
)
def test_what_does_not_fit_is_left_out_and_named(raw: dict[str, object], fields: list[str]) -> None:
    decoded = convert_object(IngressKind.GATEWAY, {"metadata": {"name": "x"}} | raw)
    assert isinstance(decoded.object, Gateway)
    assert [problem.field for problem in decoded.problems] == fields


def test_manifests_hold_all_of_it() -> None:
    documents = [CLASSES, gateway({"name": "a"}), route(to("web")), secret("cert"), service("web")]
    documents += [grant(of="a", kind="HTTPRoute", to_kind="Service", namespace="b", version=v) for v in ("v1beta1",)]
    manifest = read_manifest("\n---\n".join(documents).encode(), "x.yaml", IngressKind)
    objects = combine({"x.yaml": manifest}, None, IngressKind).objects
    assert {kind.value: len(found) for kind, found in objects.items() if found} == {
        "GatewayClass": 1,
        "Gateway": 1,
        "HTTPRoute": 1,
        "ReferenceGrant": 1,
        "Secret": 1,
        "Service": 1,
        "EndpointSlice": 1,
    }
    (found,) = objects[IngressKind.REFERENCE_GRANT].values()
    assert isinstance(found, ReferenceGrant)
    assert found.spec.from_ is not None
    assert found.spec.from_[0].namespace == "a"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_both_versions_of_gateway_api(version: str) -> None:
    text = route(to("web")).replace("networking.k8s.io/v1", f"networking.k8s.io/{version}")
    (found,) = read_manifest(text.encode(), "x.yaml", IngressKind).objects
    assert isinstance(found, HTTPRoute)


def test_a_version_that_is_not_known() -> None:
    text = route(to("web")).replace("networking.k8s.io/v1", "networking.k8s.io/v1alpha9")
    manifest = read_manifest(text.encode(), "x.yaml", IngressKind)
    assert not manifest.objects
    assert "use gateway.networking.k8s.io/v1" in manifest.problems[0].reason


def test_the_service_proxy_passes_over_all_of_it() -> None:
    documents = "\n---\n".join([CLASSES, gateway({"name": "a"}), route(to("web")), secret("cert"), service("web")])
    objects = read_manifest(documents.encode(), "x.yaml").objects
    assert [type(obj) for obj in objects] == [Kind.SERVICE.struct, EndpointSlice]


def test_nothing_of_a_key_is_shown() -> None:
    (found,) = read_manifest(secret("cert").encode(), "x.yaml", IngressKind).objects
    assert isinstance(found, Secret)
    assert repr(found) == "Secret(default/cert)"
    assert found.metadata.key == ObjectKey("default", "cert")
