"""Credentials that a program gives: client-go's exec plugins (KEP-541), run by the ``kubernetes`` package.

The package takes 16 MiB of memory and half a second to import, so it is imported where it is called, and only who has a
plugin pays.
"""

import base64
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kproxy.api.transport.kubeconfig import Exec, Kubeconfig
from kproxy.wording import printable

_GROUP = "client.authentication.k8s.io/"
_VERSIONS = ("v1", "v1beta1")
_EXTENSION = f"{_GROUP}exec"
"""What a cluster says to plugins only."""
_MODES = ("", "Never", "IfAvailable", "Always")


class Given(NamedTuple):
    """What a plugin gave: a token, a client certificate with its key (PEM), or both."""

    token: str = ""
    certificate: bytes | None = None
    key: bytes | None = None
    expires: float | None = None
    """When to ask again, in seconds since the epoch."""

    @property
    def expired(self) -> bool:
        """Whether it is to be asked again."""
        return self.expires is not None and time.time() > self.expires


class _Settings(dict[str, Any]):
    """The settings of a plugin as the package wants them."""

    def safe_get(self, key: str) -> Any:
        """Return a value, or None."""
        return self.get(key)


class _ClusterInfo(NamedTuple):
    """What the package hands on to a plugin about the cluster."""

    value: Mapping[str, Any]


def run_plugin(kubeconfig: Kubeconfig, plugin: Exec, server: str) -> Given:
    """Run a plugin that `check_plugin` let pass. Raises `kproxy.api.transport.access.AccessError`."""
    name = _name(plugin)
    if plugin.interactive_mode == "Always" and not _at_a_terminal():
        raise kubeconfig.error(
            f"{name} wants somebody to answer it (interactiveMode: Always), and nobody is here: "
            "use a token, a client certificate or a plugin that works alone"
        )
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.exec_provider import ExecProvider

    try:
        status = ExecProvider(
            _settings(kubeconfig, plugin), None, _ClusterInfo(_cluster_info(kubeconfig, server))
        ).run()
    except FileNotFoundError as error:
        hint = f"; {printable(plugin.install_hint)}" if plugin.install_hint else ""
        raise kubeconfig.error(f"{name} is not installed here, or not in PATH{hint}") from error
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise kubeconfig.error(f"{name} gave no credentials ({printable(str(error))})") from error
    return _read_status(kubeconfig, name, status)


def check_plugin(kubeconfig: Kubeconfig, plugin: Exec) -> None:
    """Raise `kproxy.api.transport.access.AccessError` for settings that make no plugin, be it run or not."""
    version, mode = plugin.api_version or "", plugin.interactive_mode or ""
    if not plugin.command:
        raise kubeconfig.error("its exec plugin has no command: set exec.command")
    if version not in [f"{_GROUP}{known}" for known in _VERSIONS]:
        shown = f"of apiVersion {printable(version)}" if version else "without apiVersion"
        raise kubeconfig.error(f"{_name(plugin)} {shown}: set exec.apiVersion to {_GROUP}v1")
    if mode not in _MODES:
        raise kubeconfig.error(
            f"{_name(plugin)}: interactiveMode {printable(mode)}: it is Never, IfAvailable or Always"
        )


def _name(plugin: Exec) -> str:
    return f"the exec plugin {printable(plugin.command or '')}"


def _settings(kubeconfig: Kubeconfig, plugin: Exec) -> _Settings:
    command = plugin.command or ""
    return _Settings(
        command=str(kubeconfig.file(command)) if "/" in command else command,
        args=plugin.args,
        apiVersion=plugin.api_version,
        env=[{"name": variable.name, "value": variable.value or ""} for variable in plugin.env or ()],
        provideClusterInfo=plugin.provide_cluster_info,
    )


def _at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _cluster_info(kubeconfig: Kubeconfig, server: str) -> Mapping[str, Any]:
    """Return client-go's ExecCredential.spec.cluster."""
    cluster = kubeconfig.cluster
    authority = kubeconfig.pem(
        "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
    )
    info = {
        "server": server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": None if authority is None else base64.b64encode(authority).decode(),
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
        "config": next(
            (
                extension.get("extension")
                for extension in cluster.extensions or ()
                if isinstance(extension, Mapping) and extension.get("name") == _EXTENSION
            ),
            None,
        ),
    }
    return {name: value for name, value in info.items() if value}


def _read_status(kubeconfig: Kubeconfig, name: str, status: object) -> Given:
    if not isinstance(status, Mapping):
        raise kubeconfig.error(f"{name} gave no credentials (no status)")
    texts = [status.get(field) or "" for field in ("token", "clientCertificateData", "clientKeyData")]
    token, certificate, key = (text if isinstance(text, str) else "" for text in texts)
    if not (token or certificate or key):
        raise kubeconfig.error(f"{name} gave no credentials (no token and no certificate)")
    if bool(certificate) != bool(key):
        raise kubeconfig.error(f"{name} gave a certificate without a key, or a key without a certificate")
    return Given(token, certificate.encode() or None, key.encode() or None, _moment(status.get("expirationTimestamp")))


def _moment(text: object) -> float | None:
    """Return an RFC 3339 time in seconds since the epoch; None if there is none."""
    if isinstance(text, datetime):
        return text.timestamp()
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
