"""What the status of objects becomes, and when it is written."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from kproxy.api.decode import convert_object
from kproxy.api.types import ObjectKey
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.planner import HttpPlanner
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.status.reports import Applied, StatusPatch, patches
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import CLASSES, planner, service
from tests.kit.yaml_text import from_yaml, to_yaml

NOW, LATER = "2026-11-26T10:00:00Z", "2026-11-26T11:00:00Z"
OFFLINE = PlanSettings(in_cluster=False)
APPLIED = Applied(ingress_addresses=("192.0.2.1", "lb.example.com"), own_addresses=("192.0.2.9",))
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: default, generation: 3}
spec: {ingressClassName: kproxy, defaultBackend: {service: {name: web, port: {number: 80}}}}
"""


def with_generation(document: str, generation: int) -> str:
    raw = from_yaml(document)
    raw["metadata"]["generation"] = generation
    return to_yaml(raw)


def written(
    made: HttpPlanner, applied: Applied = APPLIED, now: str = NOW, settings: PlanSettings = OFFLINE
) -> dict[str, StatusPatch]:
    """Return all patches by the kind of the object."""
    found = patches(made.world, made.refresh(), settings, applied, now)
    return {f"{patch.kind}/{patch.key.name}": patch for patch in found}


def take(made: HttpPlanner, patch: StatusPatch) -> None:
    """Do with a patch what a server does, and let the planner see it."""
    fields: dict[IngressKind, Any] = {
        IngressKind.INGRESS: made.world.ingresses,
        IngressKind.GATEWAY_CLASS: made.world.gateway_classes,
        IngressKind.GATEWAY: made.world.gateways,
        IngressKind.HTTP_ROUTE: made.world.http_routes,
    }
    kind = IngressKind[patch.kind.name]
    held: Any = fields[kind][patch.key]
    raw: dict[str, Any] = {**msgspec.to_builtins(held), "status": patch.body["status"]}
    raw["metadata"]["resourceVersion"] = str(int(raw["metadata"].get("resourceVersion", "0")) + 1)
    decoded = convert_object(kind, raw)
    assert not decoded.problems
    assert decoded.object is not None
    made.update(kind, decoded.object)


def conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str, int, str]]:
    return {
        one["type"]: (one["status"], one["reason"], one["observedGeneration"], one["lastTransitionTime"])
        for one in status["conditions"]
    }


def everything() -> HttpPlanner:
    return planner(
        with_generation(CLASSES, 1),
        with_generation(gateway({"name": "http"}, {"name": "odd", "protocol": "UDP"}), 5),
        with_generation(route(to("web")), 7),
        INGRESS,
        service("web"),
        settings=OFFLINE,
    )


def test_what_is_said_of_everything() -> None:
    found = written(everything())
    assert found["Ingress/a"].body["status"] == {
        "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}
    }
    assert found["Ingress/a"].path == "/apis/networking.k8s.io/v1/namespaces/default/ingresses/a/status"
    assert found["GatewayClass/kproxy"].path == "/apis/gateway.networking.k8s.io/v1/gatewayclasses/kproxy/status"
    klass = found["GatewayClass/kproxy"].body["status"]
    assert conditions(klass) == {"Accepted": ("True", "Accepted", 1, NOW)}
    names = [feature["name"] for feature in klass["supportedFeatures"]]
    assert names == sorted(names)
    assert {"Gateway", "HTTPRoute", "ReferenceGrant", "HTTPRouteMethodMatching"} <= set(names)
    gate = found["Gateway/gw"].body["status"]
    assert conditions(gate) == {
        "Accepted": ("True", "ListenersNotValid", 5, NOW),
        "Programmed": ("True", "Programmed", 5, NOW),
    }
    assert gate["addresses"] == [{"type": "IPAddress", "value": "192.0.2.9"}]
    http, odd = gate["listeners"]
    assert (http["name"], http["attachedRoutes"]) == ("http", 1)
    assert http["supportedKinds"] == [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]
    assert (odd["name"], odd["attachedRoutes"], odd["supportedKinds"]) == ("odd", 0, [])
    assert conditions(odd)["Accepted"] == ("False", "UnsupportedProtocol", 5, NOW)
    (parent,) = found["HTTPRoute/route"].body["status"]["parents"]
    assert parent["parentRef"] == {"name": "gw"}
    assert parent["controllerName"] == "kproxy.dev/gateway"
    assert conditions(parent) == {
        "Accepted": ("True", "Accepted", 7, NOW),
        "ResolvedRefs": ("True", "ResolvedRefs", 7, NOW),
    }


def test_what_is_written_is_not_written_again() -> None:
    made = everything()
    for patch in written(made).values():
        take(made, patch)
    assert written(made, now=LATER) == {}


def test_a_patch_holds_for_the_version_that_was_read() -> None:
    made = planner(INGRESS.replace("generation: 3", "resourceVersion: '42'"), service("web"), settings=OFFLINE)
    assert written(made)["Ingress/a"].body["metadata"] == {"resourceVersion": "42"}


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    made = everything()
    for patch in written(made).values():
        take(made, patch)
    made.replace(IngressKind.SERVICE, {})
    (patch,) = written(made, now=LATER).values()
    assert conditions(patch.body["status"]["parents"][0]) == {
        "Accepted": ("True", "Accepted", 7, NOW),
        "ResolvedRefs": ("False", "BackendNotFound", 7, LATER),
    }


def test_a_new_generation_is_observed() -> None:
    made = everything()
    for patch in written(made).values():
        take(made, patch)
    held = made.world.gateways[ObjectKey("default", "gw")]
    metadata = msgspec.structs.replace(held.metadata, generation=6)
    made.update(IngressKind.GATEWAY, msgspec.structs.replace(held, metadata=metadata))
    (patch,) = written(made, now=LATER).values()
    assert conditions(patch.body["status"])["Accepted"] == ("True", "ListenersNotValid", 6, NOW)
    assert {entry[2] for one in patch.body["status"]["listeners"] for entry in conditions(one).values()} == {6}


def test_before_the_engine_has_it_nothing_is_programmed_and_no_ingress_has_an_address() -> None:
    found = written(
        everything(), Applied(programmed=False, ingress_addresses=("192.0.2.1",), own_addresses=("192.0.2.9",))
    )
    assert "Ingress/a" not in found
    gate = found["Gateway/gw"].body["status"]
    assert conditions(gate)["Programmed"] == ("False", "Pending", 5, NOW)
    assert conditions(gate["listeners"][0])["Programmed"] == ("False", "Pending", 5, NOW)


def test_without_an_address_a_gateway_is_not_programmed() -> None:
    found = written(everything(), Applied())
    assert conditions(found["Gateway/gw"].body["status"])["Programmed"] == ("False", "AddressNotAssigned", 5, NOW)


def test_what_others_say_stays() -> None:
    others = [
        {"parentRef": {"name": "theirs"}, "controllerName": "example.com/x", "conditions": []},
        {
            "parentRef": {"name": "gw"},
            "controllerName": "kproxy.dev/gateway",
            "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Old", "message": "", "observedGeneration": 1,
                 "lastTransitionTime": "2020-01-01T00:00:00Z"},
                {"type": "PartiallyInvalid", "status": "True", "reason": "Old", "message": "", "observedGeneration": 1,
                 "lastTransitionTime": "2020-01-01T00:00:00Z"},
                {"type": "example.com/Own", "status": "True", "reason": "X", "message": "", "observedGeneration": 1,
                 "lastTransitionTime": "2020-01-01T00:00:00Z"},
            ],
        },
        {"parentRef": {"name": "gone"}, "controllerName": "kproxy.dev/gateway", "conditions": []},
    ]  # fmt: skip
    raw = from_yaml(route(to("web"))) | {"status": {"parents": others}}
    made = planner(CLASSES, gateway({"name": "x"}), to_yaml(raw), service("web"), settings=OFFLINE)
    parents = written(made)["HTTPRoute/route"].body["status"]["parents"]
    assert [(one["controllerName"], one["parentRef"]["name"]) for one in parents] == [
        ("example.com/x", "theirs"),
        ("kproxy.dev/gateway", "gw"),
    ]
    # The condition of generation 1 is of a later one than this object, of generation 0: nothing of it is touched.
    assert conditions(parents[1])["Accepted"][1] == "Old"
    raw["metadata"]["generation"] = 2
    made = planner(CLASSES, gateway({"name": "x"}), to_yaml(raw), service("web"), settings=OFFLINE)
    ours = conditions(written(made)["HTTPRoute/route"].body["status"]["parents"][1])
    assert ours == {
        "Accepted": ("True", "Accepted", 2, "2020-01-01T00:00:00Z"),
        "ResolvedRefs": ("True", "ResolvedRefs", 2, NOW),
        "example.com/Own": ("True", "X", 1, "2020-01-01T00:00:00Z"),
    }


def test_a_route_that_has_left_is_told_nothing_any_more() -> None:
    made = everything()
    for patch in written(made).values():
        take(made, patch)
    made.replace(IngressKind.GATEWAY, {})
    found = written(made, now=LATER)
    assert found["HTTPRoute/route"].body["status"] == {"parents": []}


def test_an_ingress_that_has_left_is_nowhere_unless_somebody_else_has_said_more() -> None:
    made = everything()
    for patch in written(made).values():
        take(made, patch)
    key = ObjectKey("default", "a")
    applied = msgspec.structs.replace(APPLIED, left=frozenset({key, ObjectKey("default", "gone")}))
    other = made.world.ingresses[key]
    spec = msgspec.structs.replace(other.spec, ingress_class_name="other")
    made.update(IngressKind.INGRESS, msgspec.structs.replace(other, spec=spec))
    found = written(made, applied, now=LATER)
    assert found["Ingress/a"].body["status"] == {"loadBalancer": {"ingress": []}}
    elsewhere = msgspec.structs.replace(applied, ingress_addresses=("192.0.2.77",))
    assert "Ingress/a" not in written(made, elsewhere, now=LATER)
    take(made, found["Ingress/a"])
    assert "Ingress/a" not in written(made, applied, now=LATER)


def test_rules_that_the_engine_refused_are_named() -> None:
    refused = {RuleKey("HTTPRoute", "default", "route", 0): "HAProxy does not take it"}
    made = everything()
    applied = msgspec.structs.replace(APPLIED, refused=refused)
    (parent,) = written(made, applied)["HTTPRoute/route"].body["status"]["parents"]
    (told,) = [one for one in parent["conditions"] if one["type"] == "PartiallyInvalid"]
    assert told["message"] == "Dropped Rule 0 (HAProxy does not take it)"


@pytest.mark.parametrize("text", ["a\nb", "x" * 5000])
def test_messages_are_of_one_line_and_not_too_long(text: str) -> None:
    raw = from_yaml(route({"matches": [{"method": text}]}))
    made = planner(CLASSES, gateway({"name": "x"}), to_yaml(raw), settings=OFFLINE)
    (parent,) = written(made)["HTTPRoute/route"].body["status"]["parents"]
    assert all(one["message"].isprintable() and len(one["message"]) < 1100 for one in parent["conditions"])
