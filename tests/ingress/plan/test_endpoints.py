"""From a reference to a Service's port to the endpoints behind it."""

from typing import Any

import pytest

from kproxy.ingress.plan.action import BackendKey
from kproxy.ingress.plan.model import Endpoint
from tests.ingress.kit import backend_of, planned, problems
from tests.kit.yaml_text import to_yaml

KEY = BackendKey("default", "web", 80)


def service(spec: dict[str, Any]) -> str:
    raw = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    return to_yaml(raw)


def endpoint_slice(*endpoints: dict[str, Any], name: str = "web-1", family: str = "IPv4", port: str = "http") -> str:
    return to_yaml(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": family,
            "ports": [{"name": port, "port": 8080}, {"name": "other", "port": 9090}],
            "endpoints": list(endpoints),
        }
    )


def at(address: str, ready: bool | None = None, serving: bool | None = None, terminating: bool | None = None) -> Any:
    conditions = {"ready": ready, "serving": serving, "terminating": terminating}
    return {
        "addresses": [address],
        "conditions": {name: value for name, value in conditions.items() if value is not None},
    }


def ingress(port: str = "number: 80", name: str = "web") -> str:
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: a, namespace: default}}
spec: {{defaultBackend: {{service: {{name: {name}, port: {{{port}}}}}}}}}
"""


PORTS = {
    "ports": [
        {"name": "http", "port": 80},
        {"name": "other", "port": 81},
        {"name": "udp", "port": 82, "protocol": "UDP"},
    ]
}


@pytest.mark.parametrize(
    ("endpoints", "found"),
    [
        ([at("10.0.0.2"), at("10.0.0.1")], [("10.0.0.1", False), ("10.0.0.2", False)]),
        ([at("10.0.0.1", ready=True), at("10.0.0.2", ready=False)], [("10.0.0.1", False)]),
        (
            [at("10.0.0.1", ready=True), at("10.0.0.2", ready=False, serving=True, terminating=True)],
            [("10.0.0.1", False), ("10.0.0.2", True)],
        ),
        ([at("10.0.0.2", ready=False, serving=True, terminating=True)], [("10.0.0.2", False)]),
        ([at("10.0.0.2", ready=False, serving=False, terminating=True)], []),
        ([at("10.0.0.2", ready=False)], []),
        ([at("127.0.0.1"), at("nonsense"), at("10.0.0.1")], [("10.0.0.1", False)]),
    ],
)
def test_ready_ones_and_those_to_drain(endpoints: list[Any], found: list[tuple[str, bool]]) -> None:
    plan = planned(ingress(), service(PORTS), endpoint_slice(*endpoints))
    assert plan.plan.backends[KEY].endpoints == tuple(Endpoint(ip, 8080, draining) for ip, draining in found)
    assert backend_of(plan, "h") == ("default/web:80" if any(not draining for _, draining in found) else "503")


def test_slices_of_both_families_are_one_backend() -> None:
    slices = (
        endpoint_slice(at("10.0.0.1")),
        endpoint_slice(at("fd00::1"), name="web-2", family="IPv6"),
        endpoint_slice(at("x.example.com"), name="web-3", family="FQDN"),
    )
    plan = planned(ingress(), service(PORTS), *slices)
    assert plan.plan.backends[KEY].endpoints == (Endpoint("10.0.0.1", 8080), Endpoint("fd00::1", 8080))


def test_an_address_that_moves_between_slices_counts_once() -> None:
    slices = (
        endpoint_slice(at("10.0.0.1", ready=False, serving=True, terminating=True)),
        endpoint_slice(at("10.0.0.1", ready=True), name="web-2"),
    )
    assert planned(ingress(), service(PORTS), *slices).plan.backends[KEY].endpoints == (Endpoint("10.0.0.1", 8080),)


@pytest.mark.parametrize("spec", [PORTS | {"clusterIP": "None"}, PORTS | {"selector": {"app": "x"}}, PORTS])
def test_headless_services_and_those_without_a_selector_are_as_good_as_any(spec: dict[str, Any]) -> None:
    plan = planned(ingress(), service(spec), endpoint_slice(at("10.0.0.1")))
    assert plan.plan.backends[KEY].endpoints == (Endpoint("10.0.0.1", 8080),)
    assert not plan.problems


@pytest.mark.parametrize(("port", "number"), [("number: 80", 80), ("name: http", 80), ("name: other", 81)])
def test_ports_by_name_and_by_number(port: str, number: int) -> None:
    plan = planned(ingress(port), service(PORTS), endpoint_slice(at("10.0.0.1")))
    (found,) = plan.plan.backends.values()
    assert found.key == BackendKey("default", "web", number)
    assert found.endpoints == (Endpoint("10.0.0.1", 8080 if number == 80 else 9090),)


def test_a_port_without_a_name() -> None:
    plan = planned(ingress(), service({"ports": [{"port": 80}]}), endpoint_slice(at("10.0.0.1"), port=""))
    assert plan.plan.backends[KEY].endpoints == (Endpoint("10.0.0.1", 8080),)


@pytest.mark.parametrize(
    ("port", "name", "spec", "complaint"),
    [
        ("number: 83", "web", PORTS, "Service default/web has no TCP port 83; it has 80 ('http'), 81 ('other')"),
        ("number: 82", "web", PORTS, "has no TCP port 82"),
        ("name: nope", "web", PORTS, "has no TCP port 'nope'"),
        ("number: 80", "missing", PORTS, "there is no Service 'default/missing'"),
        ("number: 80", "web", PORTS | {"type": "ExternalName"}, "is of type ExternalName"),
    ],
)
def test_an_ingress_backend_that_leads_nowhere_is_answered_503(
    port: str, name: str, spec: dict[str, Any], complaint: str
) -> None:
    plan = planned(ingress(port, name), service(spec), endpoint_slice(at("10.0.0.1")))
    assert backend_of(plan, "h") == "503"
    (problem,) = problems(plan)
    assert problem.startswith("Ingress default/a: spec.defaultBackend: ")
    assert complaint in problem


@pytest.mark.parametrize(
    "backend",
    [
        "{resource: {kind: Bucket, name: x, apiGroup: x.io}}",
        "{}",
        "{service: {name: web}}",
        "{service: {name: 'A b', port: {number: 1}}}",
    ],
)
def test_an_ingress_backend_that_is_none_is_answered_500(backend: str) -> None:
    document = ingress().replace("{service: {name: web, port: {number: 80}}}", backend)
    plan = planned(document, service(PORTS))
    assert backend_of(plan, "h") == "500"
    assert len(plan.problems) == 1
