"""From what an administrator has written to what each part of the program is told, checked and in its own terms."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.config import BindAddress, ConfigError
from kproxy.config.values import parse_cidr
from kproxy.ingress.config.schema import HEALTHZ_PORT, METRICS_PORT, IngressConfiguration
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.plan.model import Bind
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.status.doors import DoorSettings
from kproxy.state.addresses import NotAnAddress, parse_ip
from kproxy.wording import quote

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_CONTROLLER = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9/._~%!$&'()*+,;=:-]+")
_STATE_DIR = re.compile(r"/[A-Za-z0-9/._-]{1,80}")
_MOST_MS = 24 * 86_400_000
"""The longest time that HAProxy can count is 24.8 days."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, checked. Equal ones mean that nothing has changed."""

    written: IngressConfiguration
    plan: PlanSettings
    engine: EngineSettings
    doors: DoorSettings
    publish: tuple[str, ...]
    """Addresses or names where Ingresses are reached; empty for those of `DoorSettings.engine`, the Service."""
    lease: ObjectKey | None
    healthz: BindAddress | None
    metrics: BindAddress | None

    @property
    def in_cluster(self) -> bool:
        """Whether objects come from an API server."""
        return not self.written.manifests


def settings_of(written: IngressConfiguration, origins: Mapping[str, str] | None = None) -> Settings:
    """Check everything; ``origins`` says where fields were set. Raises ConfigError, one line for each mistake."""
    return _Checker(written, origins or {}).settings()


class _Checker:
    """Reads one field after the other and collects what is wrong."""

    def __init__(self, written: IngressConfiguration, origins: Mapping[str, str]) -> None:
        self._written = written
        self._origins = origins
        self._errors: list[str] = []

    def settings(self) -> Settings:
        """Put everything together. Raises ConfigError."""
        written = self._written
        service = self._try("service", _object_key, written.service)
        found: dict[str, Any] = {
            "plan": self._plan(),
            "engine": self._engine(),
            "doors": DoorSettings(
                service_type=written.gateway_service_type.value,
                engine=service,
                node_addresses=self._each("nodeAddress", _ip, written.node_address),
            ),
            "publish": self._each("publishAddress", _ip_or_host, written.publish_address),
            "lease": self._try("lease", _object_key, written.lease),
            "healthz": self._address("healthzBindAddress", written.healthz_bind_address, HEALTHZ_PORT),
            "metrics": self._address("metricsBindAddress", written.metrics_bind_address, METRICS_PORT),
        }
        self._errors += [f"{self._where(path)}{text}" for path, text in _contradictions(written)]
        if self._errors:
            raise ConfigError(self._errors)
        return Settings(written=written, **found)

    def _plan(self) -> PlanSettings:
        written = self._written
        return PlanSettings(
            http_binds=self._each("httpBindAddress", _bind(80), written.http_bind_address),
            https_binds=self._each("httpsBindAddress", _bind(443), written.https_bind_address),
            ingress_class=self._try("ingressClass", _name, written.ingress_class) or "",
            ingress_controller=self._try("ingressController", _controller, written.ingress_controller) or "",
            gateway_controller=self._try("gatewayController", _controller, written.gateway_controller) or "",
            without_class=written.ingress_without_class or bool(written.manifests),
            gateways_without_class=bool(written.manifests),
            default_certificate=self._try("defaultCertificate", _object_key, written.default_certificate),
            in_cluster=not written.manifests,
        )

    def _engine(self) -> EngineSettings:
        written, timeouts = self._written, self._written.timeouts
        return EngineSettings(
            state_dir=self._try("stateDir", _state_dir, written.state_dir) or "",
            trusted=self._each("trustedProxies", _cidr, written.trusted_proxies),
            proxy_protocol=written.proxy_protocol,
            access_log=written.logging.access,
            histogram=written.latency_histogram,
            client_timeout=self._milliseconds("timeouts.client", timeouts.client),
            server_timeout=self._milliseconds("timeouts.server", timeouts.server),
            connect_timeout=self._milliseconds("timeouts.connect", timeouts.connect),
            tunnel_timeout=self._milliseconds("timeouts.tunnel", timeouts.tunnel),
            drain_timeout=self._milliseconds("timeouts.drain", timeouts.drain),
            threads=written.threads or None,
        )

    def _where(self, path: str) -> str:
        origin = self._origins.get(path) or self._origins.get(path.partition("[")[0])
        return f"{origin}: {path}: " if origin else f"{path}: "

    def _try(self, path: str, read: Callable[[str], T], text: str) -> T | None:
        if not text and path not in ("ingressClass", "ingressController", "gatewayController", "stateDir"):
            return None
        try:
            return read(text)
        except ValueError as error:
            self._errors.append(f"{self._where(path)}{error}")
            return None

    def _each(self, path: str, read: Callable[[str], T | None], texts: tuple[str, ...]) -> tuple[T, ...]:
        found = [self._try(f"{path}[{index}]", read, text) for index, text in enumerate(texts)]
        return tuple(dict.fromkeys(one for one in found if one is not None))

    def _address(self, path: str, text: str, port: int) -> BindAddress | None:
        return self._try(path, lambda given: BindAddress.parse(given, port), text)

    def _milliseconds(self, path: str, seconds: float) -> int:
        milliseconds = round(seconds * 1000)
        if not 1 <= milliseconds <= _MOST_MS:
            self._errors.append(f"{self._where(path)}{seconds} is not from 1ms to 576h")
        return milliseconds


def _contradictions(written: IngressConfiguration) -> Iterator[tuple[str, str]]:
    if written.manifests:
        for path, value in (("kubeconfig", written.kubeconfig), ("master", written.master)):
            if value:
                yield path, "objects come from --manifests or from an API server, not from both"
    if not 0 < written.cpu_share <= 1:
        yield "cpuShare", f"{written.cpu_share} is not above 0 and at most 1"
    if not 0 <= written.threads <= 64:
        yield "threads", f"{written.threads} is not from 0 to 64"
    for path, seconds in (
        ("timeouts.shutdown", written.timeouts.shutdown),
        ("timeouts.shutdownDelay", written.timeouts.shutdown_delay),
    ):
        if not 0 <= seconds <= 86_400:
            yield path, f"{seconds} is not from 0s to 24h"


def _bind(default_port: int) -> Callable[[str], Bind | None]:
    def read(text: str) -> Bind | None:
        address = BindAddress.parse(text, default_port)
        return None if address is None else Bind(address.host, address.port)

    return read


def _object_key(text: str) -> ObjectKey:
    namespace, slash, name = text.partition("/")
    if not slash or not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise ValueError(f"{quote(text)} is not NAMESPACE/NAME, as in kproxy-ingress/default-certificate")
    return ObjectKey(namespace, name)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quote(text)} is not a name of lower-case letters, digits, dashes and dots")
    return text


def _controller(text: str) -> str:
    if len(text) > 253 or not _CONTROLLER.fullmatch(text):
        raise ValueError(f"{quote(text)} is not a controller's name, as kproxy.dev/ingress is one")
    return text


def _state_dir(text: str) -> str:
    if not _STATE_DIR.fullmatch(text):
        raise ValueError(
            f"{quote(text)} is not an absolute path of at most 80 letters, digits, dashes, dots and underscores"
        )
    return text.rstrip("/")


def _ip(text: str) -> str:
    try:
        return parse_ip(text)[1]
    except NotAnAddress:
        raise ValueError(f"{quote(text)} is not an IP address") from None


def _ip_or_host(text: str) -> str:
    try:
        return parse_ip(text)[1]
    except NotAnAddress:
        if not _HOST.fullmatch(text):
            raise ValueError(f"{quote(text)} is neither an IP address nor a host name") from None
        return text


def _cidr(text: str) -> str:
    try:
        return parse_cidr(text)
    except ValueError:
        try:
            return parse_ip(text)[1]
        except NotAnAddress:
            raise ValueError(f"{quote(text)} is neither a CIDR such as 10.0.0.0/8 nor an IP address") from None
