"""Certificates: which one a client is shown, and how they come, change and go while HAProxy runs."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from kproxy.api.types import ObjectKey
from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.haproxy.kit import Load, Pod, engine, get, ingress, slices
from tests.ingress.kit import OFFLINE, key_and_certificate, planned, secret

pytestmark = pytest.mark.kernel

WEB = slices("web", ["10.1.0.1"])
FALLBACK: PlanSettings = msgspec.structs.replace(OFFLINE, default_certificate=ObjectKey("default", "fallback"))


def secured(host: str, secret_name: str, name: str = "") -> str:
    return ingress(host, "web", name=name or None).replace(
        "spec:\n", f'spec:\n  tls: [{{hosts: ["{host}"], secretName: {secret_name}}}]\n'
    )


@pytest.fixture
def one(tmp_path: Path, three: dict[str, Pod]) -> Iterator[Engine]:
    assert three
    with engine(tmp_path) as made:
        yield made


def shown(server_name: str | None) -> str:
    """Return the name on the certificate that a client is shown; empty where the handshake fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    import socket

    with socket.create_connection(("127.0.0.1", 443), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=server_name) as wrapped:
                binary = wrapped.getpeercert(binary_form=True)
        except ssl.SSLError:
            return ""
    assert binary is not None
    name = x509.load_der_x509_certificate(binary).subject.rfc4514_string()
    return name.removeprefix("CN=")


def test_each_name_has_its_certificate(one: Engine) -> None:
    one.apply(
        planned(
            WEB,
            secured("a.example.com", "a"),
            secured("*.b.example.com", "b", "b"),
            secret("a", host="a.example.com"),
            secret("b", host="*.b.example.com"),
            ingress("plain.example.com", "web"),
        ).plan
    )
    assert shown("a.example.com") == "a.example.com"
    assert shown("x.b.example.com") == "*.b.example.com"
    assert shown("other.example.com") == ""
    assert shown(None) == ""


def test_others_get_the_fallback(one: Engine) -> None:
    documents = [WEB, secured("a.example.com", "a"), secret("a", host="a.example.com")]
    one.apply(planned(*documents, secret("fallback", host="fallback"), settings=FALLBACK).plan)
    assert shown("a.example.com") == "a.example.com"
    assert shown("other.example.com") == "fallback"
    assert shown(None) == "fallback"


def test_certificates_come_change_and_go_without_a_reload(one: Engine) -> None:
    documents = [WEB, secured("a.example.com", "a"), secret("a", host="a.example.com"), ingress("w.example.com", "web")]
    one.apply(planned(*documents).plan)
    with Load("w.example.com") as load:
        more = [*documents, secured("b.example.com", "b"), secret("b", host="b.example.com")]
        assert one.apply(planned(*more).plan).reloaded is None
        assert shown("b.example.com") == "b.example.com"
        more[-1] = secret("b", host="renewed.example.com")
        assert one.apply(planned(*more).plan).reloaded is None
        assert shown("b.example.com") == "renewed.example.com"
        assert one.apply(planned(*documents).plan).reloaded is None
        assert shown("b.example.com") == ""
        assert one.ask("show ssl cert").count("certs/") == 1  # its key is not kept, either
        assert one.apply(planned(*more).plan).reloaded is None
        assert shown("b.example.com") == "renewed.example.com"
    assert load.failed == []


def test_pods_are_told_of_tls(one: Engine) -> None:
    one.apply(planned(WEB, secured("a.example.com", "a"), secret("a", host="a.example.com")).plan)
    _, certificate = key_and_certificate("a.example.com")
    trusting = ssl.create_default_context(cadata=certificate)
    seen = dict(get("a.example.com", port=443, tls=trusting).seen["headers"])
    assert (seen["x-forwarded-proto"], seen["forwarded"]) == ("https", "for=127.0.0.1;proto=https")
