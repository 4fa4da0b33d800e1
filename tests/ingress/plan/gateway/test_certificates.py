"""Certificates of a Gateway's listeners: which are sound, whose they may be, and which is shown for a name."""

from base64 import b64encode

import pytest
import yaml

from kproxy.ingress.plan.gateway.verdicts import ACCEPTED, PROGRAMMED, RESOLVED_REFS
from tests.ingress.gateways import gateway, grant
from tests.ingress.kit import CLASSES, key_and_certificate, listener_conditions, planned, problems, secret
from tests.ingress.plan.kit import ALONE, GOOD, https, said


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def secret_of(crt: str, key: str, kind: str = "kubernetes.io/tls") -> str:
    data = {"tls.crt": crt, "tls.key": key}
    metadata = {"name": "cert", "namespace": "default"}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data})


KEY, CERTIFICATE = key_and_certificate("a.com")
OTHER_KEY, _ = key_and_certificate("b.com")


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("", "there is no Secret 'default/cert' of type kubernetes.io/tls"),
        (secret_of(encoded("Hello world\n"), encoded("Hello world\n")), "tls.crt holds no certificate in PEM"),
        (secret_of("%%%", encoded(KEY)), "tls.crt is not base64"),
        (secret_of("", encoded(KEY)), "tls.crt is missing"),
        (secret_of(encoded(CERTIFICATE), encoded("x")), "tls.key holds no private key"),
        (secret_of(encoded(CERTIFICATE), encoded(OTHER_KEY)), "tls.key does not belong to the first certificate"),
        (secret_of(encoded(CERTIFICATE), encoded(KEY), "Opaque"), "is of type 'Opaque'"),
    ],
)
def test_bad_certificates(document: str, complaint: str) -> None:
    plan = planned(CLASSES, gateway(https(), {"name": "http"}), document or "---", settings=ALONE)
    assert said(plan, "https")[RESOLVED_REFS] == "False InvalidCertificateRef"
    assert said(plan, "https")[PROGRAMMED] == "False Invalid"
    assert complaint in listener_conditions(plan, "gw", "https")[RESOLVED_REFS].message
    assert said(plan, "http") == GOOD
    assert not plan.plan.certificates
    assert not any("PRIVATE" in problem for problem in problems(plan))


@pytest.mark.parametrize("reference", [{"name": "cert", "kind": "WrongKind"}, {"name": "cert", "group": "x.io"}])
def test_references_to_what_is_no_secret(reference: dict[str, str]) -> None:
    plan = planned(CLASSES, gateway(https("https", reference)), secret("cert"), settings=ALONE)
    assert said(plan, "https")[RESOLVED_REFS] == "False InvalidCertificateRef"


@pytest.mark.parametrize(
    ("granted", "resolved"),
    [
        ("", "False RefNotPermitted"),
        (grant(of="default", kind="Gateway", to_kind="Secret", namespace="certs"), "True ResolvedRefs"),
        (grant(of="default", kind="Gateway", to_kind="Secret", namespace="certs", name="cert"), "True ResolvedRefs"),
        (grant(of="default", kind="Gateway", to_kind="Secret", namespace="certs", version="v1"), "True ResolvedRefs"),
        (grant(of="default", kind="Gateway", to_kind="Secret", namespace="certs", name="x"), "False RefNotPermitted"),
        (grant(of="other", kind="Gateway", to_kind="Secret", namespace="certs"), "False RefNotPermitted"),
        (grant(of="default", kind="HTTPRoute", to_kind="Secret", namespace="certs"), "False RefNotPermitted"),
        (grant(of="default", kind="Gateway", to_kind="Service", namespace="certs"), "False RefNotPermitted"),
        (grant(of="default", kind="Gateway", to_kind="Secret", namespace="other"), "False RefNotPermitted"),
        (grant(of="default", kind="Gateway", to_kind="Secret", namespace="certs", group="x"), "False RefNotPermitted"),
    ],
)
def test_certificates_of_other_namespaces_need_a_grant(granted: str, resolved: str) -> None:
    reference = {"name": "cert", "namespace": "certs"}
    plan = planned(
        CLASSES, gateway(https("https", reference)), secret("cert", "certs"), granted or "---", settings=ALONE
    )
    assert said(plan, "https")[RESOLVED_REFS] == resolved
    assert bool(plan.plan.certificates) is resolved.startswith("True")


def test_one_sound_certificate_of_two_is_enough_to_be_served() -> None:
    plan = planned(CLASSES, gateway(https("https", {"name": "cert"}, {"name": "none"})), secret("cert"), settings=ALONE)
    assert said(plan, "https")[RESOLVED_REFS] == "False InvalidCertificateRef"
    assert said(plan, "https")[PROGRAMMED] == "True Programmed"


def test_clients_certificates_are_not_silently_left_unasked() -> None:
    tls = {"frontend": {"default": {"validation": {"caCertificateRefs": [{"name": "ca"}]}}}}
    plan = planned(CLASSES, gateway(https(), {"name": "http"}, tls=tls), secret("cert"), settings=ALONE)
    assert said(plan, "https")[ACCEPTED] == "False UnsupportedValue"
    assert said(plan, "http") == GOOD


def test_names_of_certificates_most_specific_first() -> None:
    plan = planned(
        CLASSES,
        gateway(https("any", {"name": "one"}), https("x", {"name": "two"}, hostname="x.a.com"),
                https("w", {"name": "three"}, hostname="*.a.com")),
        *(secret(name) for name in ("one", "two", "three")),
        settings=ALONE,
    )  # fmt: skip
    tls = plan.plan.frontends[0].tls
    assert tls is not None
    assert [(str(name.pattern), name.certificates[0].name) for name in tls.names] == [
        ("x.a.com", "two"),
        ("*.a.com", "three"),
        ("*", "one"),
    ]
    assert tls.fallback is not None
    assert tls.fallback.name == "one"
