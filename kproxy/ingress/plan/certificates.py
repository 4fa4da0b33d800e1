"""Secrets → certificates. An engine gets them written anew from what was parsed: nothing else of the text survives."""

import base64
import binascii
from collections.abc import Mapping

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.core import TLS_SECRET_TYPE, Secret
from kproxy.ingress.plan.model import Certificate
from kproxy.wording import printable, quote

_MOST_BYTES = 1 << 18
_SHORTEST_RSA = 1024


class BadCertificate(ValueError):  # noqa: N818 - it reads better where it is raised
    """A Secret that holds no certificate that could be shown; the message says why."""


class Certificates:
    """The certificates in Secrets, each parsed once: it is by far the dearest part of planning."""

    def __init__(self) -> None:
        self._parsed: dict[ObjectKey, tuple[Secret, Certificate | BadCertificate]] = {}

    def get(self, secrets: Mapping[ObjectKey, Secret], key: ObjectKey) -> Certificate:
        """Return the certificate in a Secret. Raises `BadCertificate`."""
        secret = secrets.get(key)
        if secret is None:
            self._parsed.pop(key, None)
            raise BadCertificate(f"there is no Secret {quote(str(key))} of type {TLS_SECRET_TYPE}")
        held = self._parsed.get(key)
        if held is None or held[0] is not secret:
            held = self._parsed[key] = (secret, _parse(secret))
        if isinstance(held[1], BadCertificate):
            raise held[1]
        return held[1]

    def forget_all_but(self, keys: frozenset[ObjectKey]) -> None:
        """Forget what nobody names any more."""
        self._parsed = {key: held for key, held in self._parsed.items() if key in keys}


def _parse(secret: Secret) -> Certificate | BadCertificate:
    try:
        return parse(secret)
    except BadCertificate as error:
        return error


def parse(secret: Secret) -> Certificate:
    """Return the certificate in a Secret. Raises `BadCertificate`."""
    key = secret.metadata.key
    if secret.type != TLS_SECRET_TYPE:
        raise BadCertificate(f"Secret {key} is of type {quote(secret.type)}; {TLS_SECRET_TYPE} is wanted")
    chain = _chain(_entry(secret, "tls.crt"), f"Secret {key}: tls.crt")
    private = _private_key(_entry(secret, "tls.key"), f"Secret {key}: tls.key")
    if _public(chain[0].public_key()) != _public(private.public_key()):
        raise BadCertificate(f"Secret {key}: tls.key does not belong to the first certificate of tls.crt")
    return Certificate(
        key=key,
        chain_pem="".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain),
        key_pem=private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )


def _entry(secret: Secret, name: str) -> bytes:
    where = f"Secret {secret.metadata.key}: {name}"
    plain = _field(secret.string_data, name)
    if plain is not None:
        return plain.encode()
    encoded = _field(secret.data, name)
    if not encoded:
        raise BadCertificate(f"{where} is missing")
    if len(encoded) > _MOST_BYTES:
        raise BadCertificate(f"{where} is larger than {_MOST_BYTES >> 10} KiB")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise BadCertificate(f"{where} is not base64") from None


def _field(data: object, name: str) -> str | None:
    return getattr(data, "certificate" if name == "tls.crt" else "key", None)


def _chain(data: bytes, where: str) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(data)
        for certificate in chain:
            certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"{where} holds no certificate in PEM: {printable(str(error), 80)}") from None
    return chain


def _private_key(data: bytes, where: str) -> RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey:
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # what they say may quote the key
        raise BadCertificate(f"{where} holds no private key in PEM, or one with a password") from None
    if not isinstance(private, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise BadCertificate(f"{where} is neither an RSA nor an ECDSA nor an Ed25519 key")
    if isinstance(private, RSAPrivateKey) and private.key_size < _SHORTEST_RSA:
        raise BadCertificate(f"{where} is an RSA key of {private.key_size} bits; 2048 are usual")
    return private


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded
