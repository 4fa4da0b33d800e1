"""Where the API server is, whom kproxy trusts there, and as whom it speaks: plain values, and the TLS made of them.

TLS is always verified, down to the one exception that a kubeconfig can make with ``insecure-skip-tls-verify``, as with
any client of Kubernetes; kproxy then warns. What is trusted and how follows Go, because clusters are made to work with
that: a certificate that was given as an authority is one, whether it signed itself or not, and RFC 5280's formalities,
which Python insists on since 3.13, are not asked for (authorities made by older installers lack key identifiers).
"""

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class AccessError(Exception):
    """Nothing can be reached with what is configured. Its text is one line, with the remedy."""


@dataclass(frozen=True)
class AccessOptions:
    """The ways to an API server, as configured. With neither kubeconfig nor master, it is the pod's service account."""

    kubeconfig: str = ""
    master: str = ""
    """URL of the server, instead of the kubeconfig's. Alone, it means that no credentials are used."""
    fallbacks: tuple[str, ...] = ()
    """URLs of servers to turn to when the first does not answer; trust and credentials are the same."""
    service_account: Path = SERVICE_ACCOUNT
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass(frozen=True)
class TlsFiles:
    """What TLS is made of, PEM. Without an authority, the system's are trusted."""

    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    verify: bool = True
    server_name: str | None = None
    """The name to expect in the server's certificate, where it differs from the URL's."""


@dataclass(frozen=True)
class Access:
    """The way to the API server, as of now."""

    servers: tuple[str, ...]
    whose: str
    """Whose credentials these are, for messages: ``kubeconfig FILE``."""
    tls: TlsFiles = TlsFiles()
    proxy: str | None = None
    authorize: Callable[[], str | None] = field(default=lambda: None, compare=False, repr=False)
    """Returns the Authorization header of the moment. May run an exec plugin."""


def tls_context(access: Access) -> ssl.SSLContext:
    """Make the TLS settings for connections to the server. Raises `AccessError` where the files are no use."""
    tls = access.tls
    if tls.authority is not None and not tls.authority.strip():  # nothing must not come to mean the system's
        raise AccessError(f"{access.whose}: its certificate authority is empty")
    try:
        context = ssl.create_default_context(cadata=None if tls.authority is None else tls.authority.decode())
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise AccessError(f"{access.whose}: its certificate authority is not a PEM certificate") from error
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


def _load_client_certificate(context: ssl.SSLContext, tls: TlsFiles) -> None:
    """Give certificate and key to OpenSSL, which reads files only, without leaving the key on a disk."""
    with open(os.memfd_create("client-certificate"), "wb") as file:  # noqa: PTH123 - there is no path
        file.write(tls.certificate + b"\n" if tls.certificate else b"")
        file.write(tls.key or b"")
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")
