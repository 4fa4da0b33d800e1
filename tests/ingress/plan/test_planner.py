"""Planning again only what may have changed comes to the same as planning everything."""

import msgspec

from kproxy.api.decode import convert_object
from kproxy.api.manifests import read_manifest
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.plan.action import BackendKey
from kproxy.ingress.plan.model import Endpoint
from kproxy.ingress.plan.planner import HttpPlanner
from tests.ingress.gateways import gateway, route, to
from tests.ingress.kit import CLASSES, OFFLINE, backend_of, planner, secret, service

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: default}
spec:
  tls: [{hosts: [a.com], secretName: cert}]
  rules:
  - host: a.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""


def objects(text: str) -> tuple[ApiObject, ...]:
    return read_manifest(text.encode(), "x.yaml", IngressKind).objects


def kind_of(obj: ApiObject) -> IngressKind:
    return next(kind for kind in IngressKind if kind.struct is type(obj))


def anew(made: HttpPlanner) -> HttpPlanner:
    """Return a planner that is told all that another one holds."""
    fresh = HttpPlanner(OFFLINE)
    world = made.world
    for kind, held in (
        (IngressKind.INGRESS, world.ingresses),
        (IngressKind.GATEWAY_CLASS, world.gateway_classes),
        (IngressKind.GATEWAY, world.gateways),
        (IngressKind.HTTP_ROUTE, world.http_routes),
        (IngressKind.SERVICE, world.services),
        (IngressKind.SECRET, world.secrets),
    ):
        fresh.replace(kind, held)
    for slices in world.slices.values():
        for endpoint_slice in slices.values():
            fresh.update(IngressKind.ENDPOINT_SLICE, endpoint_slice)
    return fresh


def test_each_change_comes_to_the_same_as_everything_anew() -> None:
    made = HttpPlanner(OFFLINE)
    documents = [
        *objects(CLASSES), *objects(INGRESS), *objects(service("web")), *objects(secret("cert")),
        *objects(gateway({"name": "x"})), *objects(route(to("api", path="/api"))), *objects(service("api")),
        *objects(service("api").replace("10.0.", "10.1.")), *objects(secret("cert", host="other.com")),
    ]  # fmt: skip
    for obj in documents:
        made.update(kind_of(obj), obj)
        assert made.refresh() == anew(made).refresh()
    assert backend_of(made.refresh(), "a.com") == "default/web:80"
    assert backend_of(made.refresh(), "b.com", "/api") == "default/api:80"
    for obj in documents:
        made.delete(kind_of(obj), obj.metadata.key)
        assert made.refresh() == anew(made).refresh()
    assert not made.refresh().plan.backends


def test_a_change_of_endpoints_changes_the_backend_and_nothing_else() -> None:
    made = planner(INGRESS, service("web"), service("api"))
    before = made.refresh()
    (changed,) = [obj for obj in objects(service("web").replace("10.0.", "10.1.")) if kind_of(obj) == "EndpointSlice"]
    made.update(IngressKind.ENDPOINT_SLICE, changed)
    after = made.refresh()
    key = BackendKey("default", "web", 80)
    assert after.plan.frontends is before.plan.frontends
    assert after.plan.rules is before.plan.rules
    assert after.plan.backends[key].endpoints != before.plan.backends[key].endpoints
    assert all(isinstance(endpoint, Endpoint) for endpoint in after.plan.backends[key].endpoints)


def test_what_nobody_names_and_what_only_the_status_says_changes_nothing() -> None:
    made = planner(INGRESS, service("web"), secret("cert"), CLASSES, gateway({"name": "x"}))
    before = made.refresh()
    for obj in (*objects(service("unnamed")), *objects(secret("unnamed"))):
        made.update(kind_of(obj), obj)
    raw = {
        "metadata": {"name": "a", "namespace": "default", "resourceVersion": "9"},
        "spec": {},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }
    shown = convert_object(IngressKind.INGRESS, raw | {"spec": _spec_of(made)}).object
    assert shown is not None
    made.update(IngressKind.INGRESS, shown)
    assert made.refresh() is before


def _spec_of(made: HttpPlanner) -> object:
    return msgspec.to_builtins(made.world.ingresses[ObjectKey("default", "a")].spec)


def test_a_complete_set_replaces_what_there_was() -> None:
    made = planner(INGRESS, service("web"), service("api"))
    made.refresh()
    made.replace(IngressKind.INGRESS, {})
    made.replace(IngressKind.ENDPOINT_SLICE, {})
    assert not made.refresh().plan.rules
    assert not any(made.world.slices.values())


def test_a_service_that_comes_later_is_found() -> None:
    made = planner(INGRESS)
    assert backend_of(made.refresh(), "a.com") == "503"
    for obj in objects(service("web")):
        made.update(kind_of(obj), obj)
    assert backend_of(made.refresh(), "a.com") == "default/web:80"
    assert not [problem for problem in made.refresh().problems if problem.field.endswith("backend")]


def test_a_secret_that_comes_later_is_found() -> None:
    made = planner(INGRESS, service("web"))
    assert made.refresh().plan.certificates == {}
    assert made.secrets == {ObjectKey("default", "cert")}
    for obj in objects(secret("cert")):
        made.update(kind_of(obj), obj)
    assert list(made.refresh().plan.certificates) == [ObjectKey("default", "cert")]
