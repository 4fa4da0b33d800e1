"""What is said of Gateways and their listeners, and which of them get a place in the engine."""

from typing import Any

import pytest
import yaml

from kproxy.ingress.plan.gateway.verdicts import ACCEPTED, CONFLICTED, OVERLAPPING_TLS, PROGRAMMED, RESOLVED_REFS
from kproxy.ingress.plan.model import Bind, Protocol
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import (
    CLASSES,
    OFFLINE,
    backend_of,
    planned,
    planner,
    problems,
    secret,
    service,
)
from tests.ingress.plan.kit import ALONE, GOOD, https, said


def said_of_gateway(of: Planned, name: str = "gw") -> dict[str, str]:
    (verdict,) = [one for one in of.gateways.gateways if one.key.name == name]
    return {kind: f"{one.status} {one.reason}" for kind, one in verdict.conditions.items()}


def test_sound_listeners() -> None:
    plan = planned(CLASSES, gateway({"name": "http"}, https()), secret("cert"), settings=ALONE)
    assert said(plan, "http") == said(plan, "https") == GOOD
    assert said_of_gateway(plan) == {ACCEPTED: "True Accepted", PROGRAMMED: "True Programmed"}
    assert [one.kinds for one in plan.gateways.gateways[0].listeners] == [("HTTPRoute",), ("HTTPRoute",)]
    assert [(one.binds, one.protocol) for one in plan.plan.frontends] == [
        ((Bind("", 80),), Protocol.HTTP),
        ((Bind("", 443),), Protocol.HTTPS),
    ]
    assert not plan.problems


@pytest.mark.parametrize(
    ("listener", "reason"),
    [
        ({"protocol": "TCP"}, "UnsupportedProtocol"),
        ({"protocol": "TLS"}, "UnsupportedProtocol"),
        ({"protocol": "example.com/x"}, "UnsupportedProtocol"),
        ({"port": 0}, "PortUnavailable"),
        ({"port": 65536}, "PortUnavailable"),
        ({"hostname": "not a host"}, "UnsupportedValue"),
        ({"hostname": "10.0.0.1"}, "UnsupportedValue"),
        ({"allowedRoutes": {"namespaces": {"from": "Some"}}}, "UnsupportedValue"),
        ({"allowedRoutes": {"namespaces": {"from": "Selector", "selector": {
            "matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}}}}, "UnsupportedValue"),
        (https(tls={"mode": "Passthrough"}), "UnsupportedValue"),
    ],
)  # fmt: skip
def test_a_bad_listener_is_not_accepted_and_the_good_one_beside_it_is(listener: dict[str, Any], reason: str) -> None:
    plan = planned(
        CLASSES, gateway({"name": "good", "port": 8080}, {"name": "bad"} | listener | {"name": "bad"}), settings=ALONE
    )
    assert said(plan, "good") == GOOD
    assert said(plan, "bad")[ACCEPTED] == f"False {reason}"
    assert said(plan, "bad")[PROGRAMMED] == "False Invalid"
    assert said_of_gateway(plan)[ACCEPTED] == "True ListenersNotValid"
    assert [one.port for one in plan.plan.frontends] == [8080]
    assert problems(plan)


def test_of_two_listeners_of_one_name_the_second_is_not_accepted() -> None:
    plan = planned(CLASSES, gateway({"name": "x"}, {"name": "x", "port": 8080}), settings=ALONE)
    first, second = plan.gateways.gateways[0].listeners
    assert first.conditions[ACCEPTED].holds
    assert second.conditions[ACCEPTED].reason == "UnsupportedValue"
    assert [one.port for one in plan.plan.frontends] == [80]


def test_the_longest_name() -> None:
    plan = planned(CLASSES, gateway({"name": "x"}, name="a" * 253), settings=ALONE)
    assert said_of_gateway(plan, "a" * 253)[ACCEPTED] == "True Accepted"


def test_a_gateway_without_any_good_listener_is_not_accepted() -> None:
    plan = planned(CLASSES, gateway({"name": "bad", "protocol": "INVALID"}), settings=ALONE)
    assert said_of_gateway(plan) == {ACCEPTED: "False ListenersNotValid", PROGRAMMED: "False Invalid"}
    assert plan.gateways.gateways[0].listeners[0].kinds == ()
    assert not plan.plan.frontends


@pytest.mark.parametrize(
    ("kinds", "supported", "sound"),
    [
        ([{"kind": "HTTPRoute"}], ("HTTPRoute",), True),
        ([{"kind": "InvalidRoute"}], (), False),
        ([{"kind": "InvalidRoute"}, {"kind": "HTTPRoute"}], ("HTTPRoute",), False),
        ([{"kind": "HTTPRoute", "group": "example.com"}], (), False),
        ([], ("HTTPRoute",), True),
    ],
)
def test_kinds_of_routes(kinds: list[dict[str, str]], supported: tuple[str, ...], *, sound: bool) -> None:
    allowed = {"namespaces": {"from": "All"}, "kinds": kinds}
    plan = planned(CLASSES, gateway({"name": "http", "allowedRoutes": allowed}), route(), settings=ALONE)
    assert plan.gateways.gateways[0].listeners[0].kinds == supported
    assert said(plan, "http")[RESOLVED_REFS] == ("True ResolvedRefs" if sound else "False InvalidRouteKinds")
    assert plan.gateways.gateways[0].listeners[0].attached == len(supported)


# --- conflicts -------------------------------------------------------------------------------------------------------


def test_listeners_of_one_port_and_hostname_conflict_and_none_of_them_wins() -> None:
    plan = planned(
        CLASSES,
        gateway(
            {"name": "one", "hostname": "a.com"},
            {"name": "two", "hostname": "A.com"},
            {"name": "b", "hostname": "b.com"},
        ),
        settings=ALONE,
    )
    for name in ("one", "two"):
        assert said(plan, name) == {
            ACCEPTED: "False HostnameConflict",
            CONFLICTED: "True HostnameConflict",
            PROGRAMMED: "False Invalid",
            RESOLVED_REFS: "True ResolvedRefs",
        }
    assert said(plan, "b") == GOOD
    assert [str(one.pattern) for one in plan.plan.frontends[0].listeners] == ["b.com"]


def test_listeners_of_one_port_and_two_protocols_conflict() -> None:
    plan = planned(
        CLASSES,
        gateway({"name": "one", "port": 443}, https("two", hostname="a.com"),
                {"name": "tcp", "port": 443, "protocol": "TCP"}),
        secret("cert"),
        settings=ALONE,
    )  # fmt: skip
    assert said(plan, "one")[CONFLICTED] == said(plan, "two")[CONFLICTED] == "True ProtocolConflict"
    assert said(plan, "tcp")[CONFLICTED] == "False NoConflicts"
    assert not plan.plan.frontends


def test_one_port_for_several_hostnames_is_no_conflict() -> None:
    plan = planned(
        CLASSES,
        gateway(
            {"name": "any"}, {"name": "wild", "hostname": "*.a.com"}, {"name": "exact", "hostname": "x.a.com"},
            {"name": "longer", "hostname": "*.x.a.com"},
        ),
        settings=ALONE,
    )  # fmt: skip
    assert [str(one.pattern) for one in plan.plan.frontends[0].listeners] == ["x.a.com", "*.x.a.com", "*.a.com", "*"]


def test_https_listeners_whose_hostnames_overlap_are_told() -> None:
    plan = planned(
        CLASSES,
        gateway(https("a", hostname="foo.example.com"), https("b", hostname="foo.example.org"),
                https("c", hostname="*.example.com")),
        secret("cert"),
        settings=ALONE,
    )  # fmt: skip
    assert [OVERLAPPING_TLS in said(plan, name) for name in "abc"] == [True, False, True]


def test_gateways_that_share_all_addresses_share_ports_and_hosts() -> None:
    plan = planned(
        CLASSES,
        gateway({"name": "http"}, name="one", created="2026-01-02T00:00:00Z"),
        gateway({"name": "http"}, name="two", created="2026-01-01T00:00:00Z"),
        route(to("web", path="/one"), name="one", parents=[{"name": "one"}]),
        route(to("web", path="/two"), name="two", parents=[{"name": "two"}]),
        service("web"),
        settings=ALONE,
    )
    (frontend,) = plan.plan.frontends
    assert [str(owner) for owner in frontend.listeners[0].owners] == [
        "Gateway/default/two/http",
        "Gateway/default/one/http",
    ]
    assert [backend_of(plan, "any", path) for path in ("/one", "/two", "/")] == ["default/web:80"] * 2 + ["404"]


def test_a_port_of_another_protocol_is_the_older_gateways() -> None:
    plan = planned(
        CLASSES,
        gateway({"name": "x", "port": 443}, name="older", created="2026-01-01T00:00:00Z"),
        gateway(https("x"), name="younger", created="2026-01-02T00:00:00Z"),
        secret("cert"),
        settings=ALONE,
    )
    assert said(plan, "x", "older") == GOOD
    assert said(plan, "x", "younger")[ACCEPTED] == "False PortUnavailable"
    assert plan.plan.frontends[0].protocol is Protocol.HTTP


def test_a_gateway_cannot_have_ingress_port_for_another_protocol() -> None:
    plan = planned(CLASSES, gateway({"name": "x", "port": 443}), settings=OFFLINE)
    assert said(plan, "x")[ACCEPTED] == "False PortUnavailable"


# --- addresses -------------------------------------------------------------------------------------------------------


def test_a_gateway_with_addresses_is_bound_there_alone_and_has_nothing_of_ingress() -> None:
    ingress = """
        apiVersion: networking.k8s.io/v1
        kind: Ingress
        metadata: {name: a}
        spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
    """
    plan = planned(
        CLASSES,
        ingress,
        gateway({"name": "x"}, addresses=[{"value": "192.0.2.1"}, {"value": "2001:DB8::1"}]),
        route(to("web", path="/gw")),
        service("web"),
    )
    at = {one.binds: one for one in plan.plan.frontends if one.protocol is Protocol.HTTP}
    assert list(at) == [(Bind("", 80),), (Bind("192.0.2.1", 80), Bind("2001:db8::1", 80))]
    mine = at[Bind("192.0.2.1", 80), Bind("2001:db8::1", 80)]
    assert [str(owner) for owner in mine.listeners[0].owners] == ["Gateway/default/gw/x"]
    assert [str(item.rule) for item in mine.listeners[0].hosts[0].routes] == ["HTTPRoute/default/route/0"]


@pytest.mark.parametrize(
    ("addresses", "accepted", "programmed"),
    [
        ([{"type": "test/fake", "value": "x"}, {"value": "192.0.2.1"}], "False UnsupportedAddress", "True Programmed"),
        ([{"type": "Hostname", "value": "a.com"}], "False UnsupportedAddress", "True Programmed"),
        ([{"value": "198.51.100.1"}, {"value": "192.0.2.1"}], "True Accepted", "False AddressNotUsable"),
        ([{"value": "nonsense"}], "True Accepted", "False AddressNotUsable"),
        ([{"type": "IPAddress"}], "True Accepted", "True Programmed"),
    ],
)
def test_addresses_that_cannot_be(addresses: list[dict[str, str]], accepted: str, programmed: str) -> None:
    made = planner(CLASSES, gateway({"name": "x"}, addresses=addresses), settings=ALONE)
    made.set_usable_addresses(frozenset({"192.0.2.1"}))
    plan = made.refresh()
    conditions = said_of_gateway(plan)
    assert conditions[ACCEPTED] == accepted
    if accepted.startswith("True"):
        assert conditions[PROGRAMMED] == programmed
    else:
        assert conditions[PROGRAMMED] == "False Invalid"
        assert not plan.plan.frontends


def test_in_a_cluster_each_port_of_a_gateway_has_a_port_of_the_engine() -> None:
    settings = PlanSettings(http_binds=(), https_binds=())
    documents = (
        CLASSES,
        gateway({"name": "a"}, {"name": "b", "hostname": "b.com"}, {"name": "c", "port": 8080}, name="one"),
        gateway({"name": "a"}, name="two"),
    )
    plan = planned(*documents, settings=settings)
    ports = plan.gateways.ports
    assert [(port.gateway, port.port) for port in ports] == [("one", 80), ("one", 8080), ("two", 80)]
    assert len(set(ports.values())) == 3
    assert {one.port: one.binds for one in plan.plan.frontends if one.listeners[0].owners[0].name == "one"} == {
        80: (Bind("", ports[next(iter(ports))]),),
        8080: (Bind("", list(ports.values())[1]),),
    }
    assert plan.gateways.gateways[0].ports == (80, 8080)


def test_the_port_that_a_gateways_service_leads_to_is_kept() -> None:
    door = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "gw-kproxy",
            "namespace": "default",
            "labels": {"app.kubernetes.io/managed-by": "kproxy-ingress"},
            "ownerReferences": [{"kind": "Gateway", "name": "gw"}],
        },
        "spec": {"ports": [{"port": 80, "targetPort": 23456}]},
    }
    settings = PlanSettings(http_binds=(), https_binds=())
    documents = (CLASSES, gateway({"name": "x"}), yaml.safe_dump(door))
    assert planned(*documents, settings=settings).plan.frontends[0].binds == (Bind("", 23456),)


def test_parameters_that_nobody_knows() -> None:
    reference = {"group": "invalid.io", "kind": "Invalid", "name": "x"}
    plan = planned(CLASSES, gateway({"name": "x"}, infrastructure={"parametersRef": reference}), settings=ALONE)
    assert said_of_gateway(plan) == {ACCEPTED: "False InvalidParameters", PROGRAMMED: "False Invalid"}
    assert not plan.plan.frontends


def test_classes() -> None:
    other = CLASSES.replace("name: kproxy", "name: other").replace("kproxy.dev/gateway", "example.com/x")
    odd = CLASSES.replace("name: kproxy", "name: odd").replace(
        "gateway}", "gateway, parametersRef: {kind: X, name: x}}"
    )
    plan = planned(
        CLASSES,
        other,
        odd,
        gateway({"name": "x"}, name="theirs", gatewayClassName="other"),
        gateway({"name": "x"}, name="none", gatewayClassName="missing"),
        gateway({"name": "x"}, name="ours"),
        settings=ALONE,
    )
    assert [one.key.name for one in plan.gateways.gateways] == ["ours"]
    found = {one.key.name: one.conditions[ACCEPTED] for one in plan.gateways.classes}
    assert {name: f"{one.status} {one.reason}" for name, one in found.items()} == {
        "kproxy": "True Accepted",
        "odd": "False InvalidParameters",
    }
