"""Where the API server is, whom kproxy trusts there, and as whom it speaks: plain values, and the TLS made of them.

TLS is always verified, down to the one exception that a kubeconfig can make with ``insecure-skip-tls-verify``, as with
any client of Kubernetes; kproxy then warns. What is trusted and how follows Go, because clusters are made to work with
that: a certificate that was given as an authority is one, whether it signed itself or not, names count where they are
alternative names only, and RFC 5280's formalities, which Python insists on since 3.13, are not asked for (authorities
made by older installers lack key identifiers).
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import field

from kproxy.api.transport.proxies import Proxy

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


class AccessError(Exception):
    """Nothing can be reached with what is configured. Its text is one line, with the remedy."""


class AccessOptions(msgspec.Struct, frozen=True):
    """The ways to an API server, as configured. With neither kubeconfig nor master, it is the pod's service account."""

    kubeconfig: str = ""
    master: str = ""
    """URL of the server, instead of the kubeconfig's. Alone, it means that no credentials are used."""
    fallbacks: tuple[str, ...] = ()
    """URLs of servers to turn to when the first does not answer; trust and credentials are the same."""
    service_account: Path = SERVICE_ACCOUNT
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


class TlsFiles(msgspec.Struct, frozen=True):
    """What TLS is made of, PEM. Without an authority, the system's are trusted."""

    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    verify: bool = True
    server_name: str | None = None
    """The name to expect in the server's certificate, where it differs from the URL's."""

    def __repr__(self) -> str:
        """Leave out the key, and all that is long."""
        return f"TlsFiles(verify={self.verify}, server_name={self.server_name!r})"


class Access(msgspec.Struct, frozen=True):
    """The way to the API server, as of now."""

    servers: tuple[str, ...]
    """Their URLs, without a slash at the end; a path in front of the API's own is kept."""
    whose: str
    """Whose credentials these are, for messages: ``kubeconfig FILE``."""
    tls: TlsFiles = TlsFiles()
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    """By server; those that are not in here are reached directly."""
    authorization: str | None = None
    """The Authorization header. It is for https only: no token ever travels in the clear."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of each request: whom to impersonate."""
    remedy: str = "check the server's URL in --kubeconfig or --master"
    """What to do about a server that isn't there."""

    def __repr__(self) -> str:
        """Leave out what is secret."""
        return f"Access(servers={self.servers!r}, whose={self.whose!r}, tls={self.tls!r}, proxies={self.proxies!r})"


def tls_context(access: Access) -> ssl.SSLContext:
    """Make the TLS settings for connections to the server. Raises `AccessError` where the files are no use."""
    tls = access.tls
    context = _trusting(access)
    context.hostname_checks_common_name = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate is not None:
        try:
            _load_client_certificate(context, tls)
        except ssl.SSLError as error:
            reason = "do not match" if error.reason == "KEY_VALUES_MISMATCH" else "are not PEM"
            raise AccessError(f"{access.whose}: its client certificate and key {reason}") from error
    return context


def _trusting(access: Access) -> ssl.SSLContext:
    """Make a context that trusts the authorities and, where there are any, nobody else.

    As in Go, what is no certificate is passed over, as long as there is one that is.
    """
    authority = access.tls.authority
    if authority is None:
        return ssl.create_default_context()
    if not authority.strip():  # nothing must not come to mean the system's
        raise AccessError(f"{access.whose}: its certificate authority is empty")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    usable = 0
    for block in _CERTIFICATES.findall(authority):
        try:
            context.load_verify_locations(cadata=block.decode("ascii", "replace"))
            usable += 1
        except (ssl.SSLError, ValueError):
            continue
    if not usable:
        raise AccessError(f"{access.whose}: its certificate authority is not a PEM certificate")
    return context


def _load_client_certificate(context: ssl.SSLContext, tls: TlsFiles) -> None:
    """Give certificate and key to OpenSSL, which reads files only, without leaving the key on a disk."""
    with open(os.memfd_create("client-certificate"), "wb") as file:  # noqa: PTH123 - there is no path
        file.write(tls.certificate + b"\n" if tls.certificate else b"")
        file.write(tls.key or b"")
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")
