"""Which Ingresses are ours, and which certificates they are shown with."""

import msgspec
import pytest

from kproxy.api.types import ObjectKey
from kproxy.ingress.plan.model import Protocol
from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.kit import frontend, planned, problems, secret, service

STRICT = PlanSettings(in_cluster=False)


def ingress(name: str = "a", class_name: str = "", annotation: str = "", tls: str = "[]", host: str = "a.com") -> str:
    annotations = f", annotations: {{kubernetes.io/ingress.class: {annotation}}}" if annotation else ""
    class_field = f"ingressClassName: {class_name}, " if class_name else ""
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default{annotations}}}
spec:
  {{{class_field}tls: {tls}, rules: [{{host: "{host}", http: {{paths: [
    {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}
"""


def ingress_class(name: str, controller: str = "kproxy.dev/ingress", default: str = "") -> str:
    annotations = f", annotations: {{ingressclass.kubernetes.io/is-default-class: '{default}'}}" if default else ""
    return f"""
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}{annotations}}}
spec: {{controller: {controller}}}
"""


@pytest.mark.parametrize(
    ("object_", "classes", "ours"),
    [
        (ingress(class_name="kproxy"), [], True),
        (ingress(class_name="kproxy"), [ingress_class("kproxy")], True),
        (ingress(class_name="kproxy"), [ingress_class("kproxy", "example.com/other")], False),
        (ingress(class_name="web"), [ingress_class("web")], True),
        (ingress(class_name="web"), [ingress_class("web", "example.com/other")], False),
        (ingress(class_name="web"), [], False),
        (ingress(annotation="kproxy"), [], True),
        (ingress(annotation="nginx"), [ingress_class("kproxy", default="true")], False),
        (ingress(annotation="nginx", class_name="kproxy"), [], False),
        (ingress(), [], False),
        (ingress(), [ingress_class("kproxy")], False),
        (ingress(), [ingress_class("kproxy", default="true")], True),
        (ingress(), [ingress_class("kproxy", default="false")], False),
        (ingress(), [ingress_class("other", "example.com/other", default="true")], False),
    ],
)
def test_classes(object_: str, classes: list[str], *, ours: bool) -> None:
    plan = planned(object_, service("web"), *classes, settings=STRICT)
    assert (plan.ingresses.served == {ObjectKey("default", "a")}) is ours
    assert bool(plan.plan.rules) is ours


def test_without_a_class_where_that_is_allowed() -> None:
    settings = msgspec.structs.replace(STRICT, without_class=True)
    assert planned(ingress(), service("web"), settings=settings).ingresses.served
    assert not planned(ingress(class_name="other"), service("web"), settings=settings).ingresses.served


def names_of(*documents: str, settings: PlanSettings = STRICT) -> tuple[list[tuple[str, str]], str, list[str]]:
    """Return host and Secret of each certificate, the one to fall back to, and the problems."""
    plan = planned(*documents, settings=settings)
    tls = frontend(plan, 443, Protocol.HTTPS).tls
    assert tls is not None
    pairs = [(str(name.pattern), name.certificates[0].name) for name in tls.names]
    return pairs, tls.fallback.name if tls.fallback else "", problems(plan)


def test_certificates_by_host() -> None:
    tls = "[{hosts: [a.com, '*.b.com'], secretName: one}, {hosts: [x.b.com], secretName: two}]"
    documents = (ingress(class_name="kproxy", tls=tls), service("web"), secret("one"), secret("two"))
    assert names_of(*documents) == ([("a.com", "one"), ("x.b.com", "two"), ("*.b.com", "one")], "", [])


def test_a_certificate_without_hosts_is_for_those_of_the_rules() -> None:
    documents = (ingress(class_name="kproxy", tls="[{secretName: one}]"), service("web"), secret("one"))
    assert names_of(*documents) == ([("a.com", "one")], "", [])


def test_the_certificate_to_fall_back_to() -> None:
    settings = msgspec.structs.replace(STRICT, default_certificate=ObjectKey("default", "one"))
    documents = (ingress(class_name="kproxy", tls="[{hosts: [a.com]}]"), service("web"))
    assert names_of(*documents, secret("one"), settings=settings) == ([], "one", [])
    pairs, fallback, complaints = names_of(*documents, settings=settings)
    assert (pairs, fallback) == ([], "")
    assert "there is no certificate to fall back to" in complaints[0]


def test_a_host_of_two_certificates_has_the_oldest_sound_one() -> None:
    tls = "[{hosts: [a.com], secretName: %s}]"
    documents = (
        ingress("a", "kproxy", tls=tls % "missing"),
        ingress("b", "kproxy", tls=tls % "one", host="b.com"),
        ingress("c", "kproxy", tls=tls % "two", host="c.com"),
        service("web"),
        secret("one"),
        secret("two"),
    )
    pairs, _, complaints = names_of(*documents)
    assert pairs == [("a.com", "one")]
    assert complaints == [
        "Ingress default/a: spec.tls[0].secretName: there is no Secret 'default/missing' of type kubernetes.io/tls"
    ]


def test_the_secrets_named_are_known_whether_they_exist_or_not() -> None:
    tls = "[{hosts: [a.com], secretName: missing}]"
    plan = planned(ingress(class_name="kproxy", tls=tls), service("web"), secret("unnamed"), settings=STRICT)
    assert plan.ingresses.secrets == {ObjectKey("default", "missing")}
    assert not plan.plan.certificates
