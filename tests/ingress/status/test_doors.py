"""The Services and slices in front of Gateways."""

import yaml

from kproxy.api.decode import convert_object
from kproxy.api.types import ObjectKey
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.plan.planner import HttpPlanner
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.status.doors import (
    Door,
    DoorSettings,
    doors,
    gateway_addresses,
    pending,
    service_name,
    superfluous,
)
from tests.ingress.gateways import gateway
from tests.ingress.kit import CLASSES, planner, service

CLUSTER = PlanSettings(http_binds=(), https_binds=())
SETTINGS = DoorSettings(engine=ObjectKey("kproxy", "ingress"))
GW = ObjectKey("default", "gw")


def made_of(*documents: str) -> HttpPlanner:
    return planner(CLASSES, service("ingress", "kproxy"), *documents, settings=CLUSTER)


def found(made: HttpPlanner, settings: DoorSettings = SETTINGS) -> dict[str, Door]:
    return {door.key.name: door for door in doors(made.world, made.refresh(), settings)}


def take(made: HttpPlanner, *wanted: Door, **status: object) -> None:
    """Do what a server does with them."""
    for door in wanted:
        kind = IngressKind[door.kind.name]
        decoded = convert_object(kind, dict(door.body) | ({"status": status} if status else {}))
        assert not decoded.problems
        assert decoded.object is not None
        made.update(kind, decoded.object)


def test_a_service_and_a_slice_of_each_family_lead_to_the_engine() -> None:
    infrastructure = {"labels": {"key2": "value2"}, "annotations": {"key1": "value1"}}
    made = made_of(gateway({"name": "a"}, {"name": "b", "port": 8080}, infrastructure=infrastructure))
    made.refresh()
    ports = made.refresh().gateways.ports
    of = {port.port: number for port, number in ports.items()}
    all_found = found(made)
    assert list(all_found) == ["gw-kproxy", "gw-kproxy-ipv4", "gw-kproxy-ipv6"]
    door = all_found["gw-kproxy"]
    assert door.path == "/api/v1/namespaces/default/services/gw-kproxy"
    assert door.body["spec"] == {
        "type": "LoadBalancer",
        "externalIPs": None,
        "ports": [
            {"name": "p80", "port": 80, "targetPort": of[80], "protocol": "TCP"},
            {"name": "p8080", "port": 8080, "targetPort": of[8080], "protocol": "TCP"},
        ],
    }
    metadata = door.body["metadata"]
    assert metadata["labels"].pop("kproxy.dev/annotations")
    assert metadata["labels"] == {
        "key2": "value2",
        "app.kubernetes.io/managed-by": "kproxy-ingress",
        "gateway.networking.k8s.io/gateway-name": "gw",
    }
    assert metadata["annotations"] == {"key1": "value1"}
    assert [(owner["kind"], owner["name"]) for owner in metadata["ownerReferences"]] == [("Gateway", "gw")]
    ipv4 = all_found["gw-kproxy-ipv4"]
    assert ipv4.path == "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/gw-kproxy-ipv4"
    assert ipv4.body["metadata"]["labels"]["kubernetes.io/service-name"] == "gw-kproxy"
    assert [port["port"] for port in ipv4.body["ports"]] == [of[80], of[8080]]
    assert [len(endpoint["addresses"]) for endpoint in ipv4.body["endpoints"]] == [1]
    assert all_found["gw-kproxy-ipv6"].body["endpoints"] == []


def test_ports_stay_when_the_planner_begins_anew() -> None:
    made = made_of(gateway({"name": "a"}))
    before = made.refresh().gateways.ports
    take(made, *found(made).values())
    assert made.refresh().gateways.ports == before
    fresh = made_of(gateway({"name": "a"}), gateway({"name": "b"}, name="another", created="2020-01-01T00:00:00Z"))
    take(fresh, *found(made).values())
    assert dict(before).items() <= dict(fresh.refresh().gateways.ports).items()


def test_what_is_there_is_not_made_again() -> None:
    gate = gateway({"name": "a"}, infrastructure={"annotations": {"a": "1"}})
    made = made_of(gate)
    first = list(pending(made.world, made.refresh(), SETTINGS))
    assert [door.key.name for door in first] == ["gw-kproxy", "gw-kproxy-ipv4", "gw-kproxy-ipv6"]
    take(made, *first)
    assert not list(pending(made.world, made.refresh(), SETTINGS))
    changed = made_of(gate.replace("'1'", "'2'"))
    take(changed, *first)
    names = [door.key.name for door in pending(changed.world, changed.refresh(), SETTINGS)]
    assert names == ["gw-kproxy", "gw-kproxy-ipv4", "gw-kproxy-ipv6"][:1]
    made.delete(IngressKind.SERVICE, ObjectKey("default", "gw-kproxy"))
    assert [door.key.name for door in pending(made.world, made.refresh(), SETTINGS)] == ["gw-kproxy"]
    made.replace(IngressKind.ENDPOINT_SLICE, {})
    assert len(list(pending(made.world, made.refresh(), SETTINGS))) == 3


def test_the_service_of_a_gateway_that_was_made_anew_is_its_own() -> None:
    first = made_of(gateway({"name": "a"}).replace("name: gw", "name: gw\n  uid: old"))
    again = made_of(gateway({"name": "a"}).replace("name: gw", "name: gw\n  uid: new"))
    take(again, *found(first).values())
    (door,) = pending(again.world, again.refresh(), SETTINGS)
    assert [owner["uid"] for owner in door.body["metadata"]["ownerReferences"]] == ["new"]


def test_addresses_asked_for_are_external_ips() -> None:
    made = made_of(gateway({"name": "a"}, addresses=[{"value": "192.0.2.7"}]))
    spec = found(made)["gw-kproxy"].body["spec"]
    assert (spec["type"], spec["externalIPs"]) == ("ClusterIP", ["192.0.2.7"])
    take(made, *found(made).values())
    assert gateway_addresses(made.world, SETTINGS) == {GW: ("192.0.2.7",)}


def test_where_a_gateway_can_be_reached() -> None:
    made = made_of(gateway({"name": "a"}))
    take(made, *found(made).values())
    assert gateway_addresses(made.world, SETTINGS) == {GW: ()}
    take(
        made, found(made)["gw-kproxy"], loadBalancer={"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}
    )
    assert gateway_addresses(made.world, SETTINGS) == {GW: ("192.0.2.1", "lb.example.com")}
    nodes = DoorSettings(service_type="NodePort", engine=SETTINGS.engine, node_addresses=("10.0.0.1",))
    take(made, *found(made, nodes).values())
    assert gateway_addresses(made.world, nodes) == {GW: ("10.0.0.1",)}
    inside = DoorSettings(service_type="ClusterIP", engine=SETTINGS.engine)
    body = dict(found(made, inside)["gw-kproxy"].body)
    body["spec"] = body["spec"] | {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"]}
    take(made, Door(IngressKind.SERVICE, ObjectKey("default", "gw-kproxy"), body, GW))
    assert gateway_addresses(made.world, inside) == {GW: ("10.96.0.7", "fd00::7")}


def test_a_gateway_that_is_not_accepted_has_no_door_and_loses_the_one_it_had() -> None:
    made = made_of(gateway({"name": "a"}))
    take(made, *found(made).values())
    assert list(superfluous(made.world, made.refresh())) == []
    made.replace(IngressKind.GATEWAY_CLASS, {})
    assert found(made) == {}
    assert list(superfluous(made.world, made.refresh())) == [ObjectKey("default", "gw-kproxy")]


def test_names_of_services() -> None:
    assert service_name("gw") == "gw-kproxy"
    long, longer = service_name("g" * 63), service_name("g" * 64)
    assert len(long) <= 63
    assert len(longer) <= 63
    assert long != longer
    assert "." not in service_name("a.b")
    assert service_name("a.b") != service_name("a-b")


def test_the_longest_gateway_name() -> None:
    made = made_of(gateway({"name": "a"}, name="g" * 63))
    take(made, *found(made).values())
    assert list(gateway_addresses(made.world, SETTINGS)) == [ObjectKey("default", "g" * 63)]
    yaml.safe_dump([dict(door.body) for door in found(made).values()])
