"""What becomes of each part of an EndpointSlice."""

from typing import Any

import pytest

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind
from kproxy.api.types import EndpointSlice
from kproxy.state.model import Endpoint, IPFamily, Protocol
from kproxy.state.slices import slice_endpoints, slice_family


def endpoint_slice(**more: Any) -> EndpointSlice:
    raw = {
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.11"]}],
        "ports": [{"name": "http", "port": 8080}],
    } | more
    decoded = convert_object(Kind.ENDPOINT_SLICE, raw)
    assert decoded.problems == ()
    assert isinstance(decoded.object, EndpointSlice)
    return decoded.object


def only(**more: Any) -> Endpoint:
    """Return the one endpoint of a slice with one endpoint, of which ``more`` says more."""
    found, problems = slice_endpoints(
        endpoint_slice(endpoints=[{"addresses": ["10.244.0.11"]} | more]), IPFamily.IPV4, "node-a"
    )
    assert problems == ()
    ((endpoint,),) = found.values()
    return endpoint


@pytest.mark.parametrize(
    ("conditions", "ready", "serving", "terminating"),
    [
        (None, True, True, False),
        ({}, True, True, False),
        ({"ready": None, "serving": None, "terminating": None}, True, True, False),
        ({"ready": False}, False, True, False),
        ({"ready": False, "serving": False, "terminating": True}, False, False, True),
        ({"ready": True, "terminating": True}, True, True, True),
    ],
)
def test_conditions(conditions: Any, ready: bool, serving: bool, terminating: bool) -> None:
    endpoint = only(conditions=conditions)
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == (ready, serving, terminating)


@pytest.mark.parametrize(
    ("node", "local", "remote"),
    [("node-a", True, False), ("node-b", False, True), (None, False, False), ("", False, False)],
)
def test_place(node: str | None, local: bool, remote: bool) -> None:
    endpoint = only(nodeName=node)
    assert (endpoint.is_local, endpoint.is_remote) == (local, remote)


def test_hints() -> None:
    endpoint = only(hints={"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "node-a"}]})
    assert endpoint.zone_hints == ("a", "b")
    assert endpoint.node_hints == ("node-a",)


@pytest.mark.parametrize("kind", ["FQDN", "", "IPX"])
def test_slices_of_no_family(kind: str) -> None:
    assert slice_family(endpoint_slice(addressType=kind)) is None


def test_slices_of_headless_services_are_left_alone() -> None:
    labels = {"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""}
    metadata = {"name": "web-1", "namespace": "shop", "labels": labels}
    assert slice_family(endpoint_slice(metadata=metadata)) is None


def test_only_the_first_address_counts() -> None:
    found, problems = slice_endpoints(
        endpoint_slice(endpoints=[{"addresses": ["10.244.0.11", "10.244.0.12"]}]), IPFamily.IPV4, "node-a"
    )
    assert problems == ()
    assert found == {("http", Protocol.TCP): (Endpoint("10.244.0.11", 8080),)}


def test_a_port_without_a_number_is_not_proxied() -> None:
    found, problems = slice_endpoints(endpoint_slice(ports=[{"name": "http"}]), IPFamily.IPV4, "node-a")
    assert (found, problems) == ({}, ())


def test_every_port_goes_with_every_address() -> None:
    endpoints = [{"addresses": ["10.244.0.11"]}, {"addresses": ["10.244.0.12"]}]
    ports = [{"name": "", "port": 1}, {"name": "", "port": 2, "protocol": "UDP"}]
    found, _ = slice_endpoints(endpoint_slice(endpoints=endpoints, ports=ports), IPFamily.IPV4, "node-a")
    assert found == {
        ("", Protocol.TCP): (Endpoint("10.244.0.11", 1), Endpoint("10.244.0.12", 1)),
        ("", Protocol.UDP): (Endpoint("10.244.0.11", 2), Endpoint("10.244.0.12", 2)),
    }


BAD_PARTS: list[tuple[dict[str, Any], str, str]] = [
    ({"endpoints": [{"addresses": []}]}, "endpoints[0].addresses", "empty; the endpoint is ignored"),
    ({"endpoints": [{}]}, "endpoints[0].addresses", "empty; the endpoint is ignored"),
    ({"endpoints": [{"addresses": ["www"]}]}, "endpoints[0].addresses[0]", "'www': not an IP address; the endpoint is"),
    (
        {"endpoints": [{"addresses": ["127.0.0.1"]}]},
        "endpoints[0].addresses[0]",
        "'127.0.0.1': a loopback or link-local",
    ),
    ({"endpoints": [{"addresses": ["169.254.169.254"]}]}, "endpoints[0].addresses[0]", "'169.254.169.254': a loopback"),
    ({"endpoints": [{"addresses": ["fd00::1"]}]}, "endpoints[0].addresses[0]", "fd00::1 in a slice of type IPv4"),
    ({"endpoints": [{"addresses": ["0.0.0.0"]}]}, "endpoints[0].addresses[0]", "'0.0.0.0': the unspecified address"),
    ({"ports": [{"port": 0}]}, "ports[0].port", "0 is not in 1-65535; it is ignored"),
    ({"ports": [{"port": 99_999}]}, "ports[0].port", "99999 is not in 1-65535; it is ignored"),
    ({"ports": [{"port": 1, "protocol": "QUIC"}]}, "ports[0].protocol", "'QUIC' is not TCP, UDP or SCTP"),
    ({"ports": [{"port": 1}, {"port": 2}]}, "ports[1]", "''/tcp is there twice; the first one counts"),
]


@pytest.mark.parametrize(("more", "field", "reason"), BAD_PARTS)
def test_a_bad_part_is_named_and_costs_nothing_else(more: dict[str, Any], field: str, reason: str) -> None:
    good_endpoint, good_port = {"addresses": ["10.244.0.99"]}, {"name": "good", "port": 9}
    endpoints = [*more.get("endpoints", []), good_endpoint]
    ports = [*more.get("ports", []), good_port]
    found, problems = slice_endpoints(endpoint_slice(endpoints=endpoints, ports=ports), IPFamily.IPV4, "node-a")
    assert [problem.field for problem in problems] == [field]
    assert problems[0].reason.startswith(reason)
    assert found["good", Protocol.TCP] == (Endpoint("10.244.0.99", 9),)
