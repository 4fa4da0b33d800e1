"""Reading kubeconfig files and service accounts, again and again.

The ``kubernetes`` package does the reading, exec plugins included; what comes of it is a plain `Access`. All of it may
change while kproxy runs: the kubelet rotates service-account tokens, client certificates are renewed, a cluster gets a
new authority. So nothing is trusted for longer than a minute, except what an exec plugin gave: that lasts until it
expires, is refused, or the kubeconfig changes.

The package costs 20 MB and half a second to import, so it is imported where it is called, and nobody pays who doesn't.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kproxy import logs
from kproxy.api.access import Access, AccessError, AccessOptions, TlsFiles
from kproxy.api.yamlreader import UnreadableError, read_documents
from kproxy.wording import printable

_MAX_AGE_SECONDS = 60.0

_log = logs.get("credentials")


class Credentials:
    """The access of the moment. Any thread may ask. Raises `AccessError` when made, if there is none."""

    def __init__(self, options: AccessOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._loaded = _load(options)
        if not self._loaded.access.tls.verify:
            _log.warning(
                "the API server's certificate is not verified, anybody can pose as it: remove insecure-skip-tls-verify",
                source=self._loaded.access.whose,
            )

    def current(self) -> Access:
        """Return the access, read anew if that is due. What can't be read now stays as it was."""
        with self._lock:
            if self._is_due():
                self._reload()
            return self._loaded.access

    def renew(self, refused: Access) -> Access:
        """Return an access other than the one that was just refused, if there is one to be had."""
        with self._lock:
            if self._loaded.access is refused:
                self._reload()
            return self._loaded.access

    def _is_due(self) -> bool:
        loaded = self._loaded
        if loaded.lasting:
            return loaded.changed_ns != _changed_ns(self._options.kubeconfig)
        return time.monotonic() - loaded.at > _MAX_AGE_SECONDS

    def _reload(self) -> None:
        try:
            self._loaded = _load(self._options)
        except AccessError as error:
            _log.warning("credentials cannot be read again, those in use stay", error=str(error))
            self._loaded = self._loaded._replace(at=time.monotonic())


class _Loaded(NamedTuple):
    access: Access
    at: float
    lasting: bool = False
    """Whether only a refusal or a changed kubeconfig is a reason to load again."""
    changed_ns: int = 0


def _load(options: AccessOptions) -> _Loaded:
    if options.kubeconfig:
        return _load_kubeconfig(options)
    if options.master:
        servers = (options.master.rstrip("/"), *options.fallbacks)
        return _Loaded(Access(_unique(servers), "no credentials (--master alone)"), time.monotonic(), lasting=True)
    return _load_service_account(options)


def _load_kubeconfig(options: AccessOptions) -> _Loaded:
    path = Path(options.kubeconfig)
    changed_ns = _changed_ns(options.kubeconfig)
    plugin = _check_kubeconfig(path)
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config
    from kubernetes.config.config_exception import ConfigException

    configuration = Configuration()
    with _scratch_folder() as scratch, _heard_complaints() as complaints:
        try:
            load_kube_config(
                str(path), client_configuration=configuration, persist_config=False, temp_file_path=scratch
            )
        except (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise AccessError(f"kubeconfig {path} cannot be used ({printable(str(error))})") from error
        access = _to_access(configuration, options, f"kubeconfig {path}")
    if plugin and not (configuration.api_key or configuration.cert_file):
        detail = printable("; ".join(complaints)) or "no token and no certificate"
        raise AccessError(f"kubeconfig {path}: the exec plugin {plugin} gave no credentials ({detail})")
    return _Loaded(access, time.monotonic(), plugin is not None, changed_ns)


def _check_kubeconfig(path: Path) -> str | None:
    """Say in plain words what is wrong with a kubeconfig; return the command of its exec plugin if it uses one."""
    try:
        config: Any = next((document for _, document in read_documents(path.read_bytes())), None)
    except OSError as error:
        raise AccessError(f"kubeconfig {path} cannot be read: {error.strerror}; check --kubeconfig") from error
    except UnreadableError as error:
        place = path if error.line is None else f"{path}:{error.line}"
        raise AccessError(f"kubeconfig {place}: {error.reason}") from error
    context_name = config.get("current-context") if isinstance(config, Mapping) else None
    if not context_name:
        raise AccessError(f"kubeconfig {path} selects no context: set current-context")
    context = _named(config, "contexts", context_name, path).get("context") or {}
    cluster = _named(config, "clusters", context.get("cluster"), path).get("cluster")
    user = _named(config, "users", context["user"], path).get("user") or {} if context.get("user") else {}
    if not isinstance(cluster, Mapping) or not cluster.get("server"):
        raise AccessError(f'kubeconfig {path}: the cluster "{printable(str(context["cluster"]))}" names no server')
    _check_files(cluster, ("certificate-authority",), path)
    _check_files(user, ("client-certificate", "client-key"), path)
    plugin = user.get("exec") if isinstance(user, Mapping) else None
    return printable(str(plugin.get("command"))) if isinstance(plugin, Mapping) else None


def _check_files(section: Any, fields: tuple[str, ...], kubeconfig: Path) -> None:
    """Have a look at the files that a section names; paths begin at the kubeconfig, and data beside a path wins."""
    for field in fields if isinstance(section, Mapping) else ():
        name = section.get(field)
        if not isinstance(name, str) or not name or section.get(f"{field}-data"):
            continue
        try:
            (kubeconfig.parent / name).read_bytes()
        except OSError as error:
            raise AccessError(
                f"kubeconfig {kubeconfig}: {field}: {printable(name)} cannot be read: {error.strerror}"
            ) from error


def _named(config: Mapping[str, Any], section: str, name: object, path: Path) -> Mapping[str, Any]:
    entries = config.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and entry.get("name") == name:
            return entry
    raise AccessError(f'kubeconfig {path}: there is no "{printable(str(name))}" among its {section}')


def _load_service_account(options: AccessOptions) -> _Loaded:
    from kubernetes.client import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    folder = options.service_account
    if not (options.environ.get("KUBERNETES_SERVICE_HOST") and options.environ.get("KUBERNETES_SERVICE_PORT")):
        raise AccessError(
            "no API server is configured: use --kubeconfig FILE or --master URL, or --manifests DIR to do without one "
            "(in a pod, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT would name it)"
        )
    for name in ("token", "ca.crt"):
        _check_mounted(folder, name)
    configuration = Configuration()
    try:
        loader = InClusterConfigLoader(str(folder / "token"), str(folder / "ca.crt"), environ=options.environ)
        loader.load_and_set(configuration)
        access = _to_access(configuration, options, "service account")
    except (ConfigException, OSError) as error:
        raise AccessError(f"service account in {folder} cannot be used ({printable(str(error))})") from error
    return _Loaded(access, time.monotonic())


def _check_mounted(folder: Path, name: str) -> None:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise AccessError(
            f"service account in {folder}: {name} cannot be read: {error.strerror}; is it mounted?"
        ) from error
    if not content:
        raise AccessError(f"service account in {folder}: {name} is empty")


def _to_access(configuration: Any, options: AccessOptions, whose: str) -> Access:
    primary = options.master or configuration.host

    def authorize() -> str | None:
        for setting in configuration.auth_settings().values():  # runs an exec plugin again if its token has expired
            return " ".join(setting["value"].split())  # a token file may end in a newline
        return None

    return Access(
        servers=_unique((primary.rstrip("/"), *options.fallbacks)),
        whose=whose,
        tls=TlsFiles(
            authority=_content(configuration.ssl_ca_cert),
            certificate=_content(configuration.cert_file),
            key=_content(configuration.key_file),
            verify=configuration.verify_ssl,
            server_name=configuration.tls_server_name,
        ),
        proxy=_proxy(configuration, whose),
        authorize=authorize,
    )


def _proxy(configuration: Any, whose: str) -> str | None:
    """Return the HTTP proxy to go through, be it the kubeconfig's or the environment's."""
    from kubernetes.client import rest

    proxy: str | None = configuration.proxy
    if not proxy or rest.should_bypass_proxies(configuration.host, no_proxy=configuration.no_proxy or ""):
        return None
    if not proxy.startswith(("http://", "https://")):
        raise AccessError(f"{whose}: {printable(proxy)}: only HTTP proxies are supported")
    return proxy


def _unique(servers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(server.rstrip("/") for server in servers))


def _content(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _changed_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns if path else 0
    except OSError:
        return 0


@contextmanager
def _scratch_folder() -> Iterator[str]:
    """Give the package a place for the keys that a kubeconfig holds inline; they are gone from it right after.

    In a container with a read-only root, /dev/shm is writable where nothing else is.
    """
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError:
        parent = "/dev/shm"  # noqa: S108 - mkdtemp makes a folder that only we can enter
    with tempfile.TemporaryDirectory(prefix="kproxy-", dir=parent) as folder:
        yield folder


@contextmanager
def _heard_complaints() -> Iterator[list[str]]:
    """Collect what the package only logs: a failing exec plugin is no exception to it."""
    heard: list[str] = []
    thread = threading.get_ident()

    def listen(record: logging.LogRecord) -> bool:
        if record.thread == thread and record.module == "kube_config":
            heard.append(record.getMessage())
            return False
        return True

    root = logging.getLogger()
    root.addFilter(listen)
    try:
        yield heard
    finally:
        root.removeFilter(listen)
