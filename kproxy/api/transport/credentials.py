"""The way to the API server as client-go would go it: from flags, kubeconfig, service account and environment.

Source: client-go's clientcmd (which settings win), rest and transport (what comes of them), and kube-proxy's use of
both. The files are read here and not by the ``kubernetes`` package, which decides otherwise in many places: it sends a
``token`` where there is a fresher ``tokenFile``, knows neither user and password nor whom to impersonate, drops the
authority of a cluster without a server, and writes keys to a disk.

All of it may change while kproxy runs: the kubelet rotates service-account tokens, client certificates are renewed, a
cluster gets a new authority. So nothing is trusted for longer than a minute, except what an exec plugin gave: that
lasts until it expires, is refused, or the kubeconfig changes.
"""

import base64
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote as percent

from msgspec.structs import replace

from kproxy import logs
from kproxy.api.transport.access import Access, AccessError, AccessOptions, TlsFiles
from kproxy.api.transport.execplugin import Given, check_plugin, run_plugin
from kproxy.api.transport.kubeconfig import Cluster, EmptyKubeconfigError, Kubeconfig, User, read_kubeconfig
from kproxy.api.transport.proxies import Proxy, ProxyTextError, from_environment, from_kubeconfig
from kproxy.api.transport.urls import Login, Url, bracketed, parse_url, without_login
from kproxy.wording import printable, quote

_MAX_AGE_SECONDS = 60.0
_HEADER_CHARACTERS = "!#$&'*+-.^_`|~"
_POD_REMEDY = (
    "check KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: where nothing serves the Service kubernetes yet, "
    "they must name a control plane itself"
)

_log = logs.get("credentials")


class Credentials:
    """The access of the moment. Any thread may ask. Raises `AccessError` when made, if there is none."""

    def __init__(self, options: AccessOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._tokens: dict[Path, str] = {}
        try:
            self._loaded = _load(options, self._tokens)
        except EmptyKubeconfigError as error:  # client-go looks for a service account then
            if not _in_a_pod(options):
                raise
            _log.warning("the kubeconfig is of no use, the pod's service account is used instead", reason=error)
            self._options = replace(options, kubeconfig="")
            self._loaded = _load(self._options, self._tokens)
        for warning in self._loaded.warnings:
            _log.warning(warning, source=self._loaded.access.whose)

    @property
    def latest(self) -> Access:
        """The access as it was last read."""
        return self._loaded.access

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
        if loaded.given is not None:
            return loaded.given.expired or loaded.changed_ns != _changed_ns(self._options.kubeconfig)
        return not loaded.fixed and time.monotonic() - loaded.at > _MAX_AGE_SECONDS

    def _reload(self) -> None:
        try:
            self._loaded = _load(self._options, self._tokens)
        except AccessError as error:
            _log.warning("credentials cannot be read again, those in use stay", error=str(error))
            self._loaded = self._loaded._replace(at=time.monotonic())


class _Loaded(NamedTuple):
    access: Access
    at: float
    warnings: tuple[str, ...] = ()
    fixed: bool = False
    """Whether there is nothing that could change."""
    given: Given | None = None
    """What an exec plugin gave."""
    changed_ns: int = 0


class _Way(NamedTuple):
    """To which servers, and through which proxies."""

    servers: tuple[str, ...]
    proxies: Mapping[str, Proxy]
    login: Login | None
    """User and password in the first server's URL."""
    warnings: tuple[str, ...]

    @property
    def secure(self) -> bool:
        """Whether credentials go anywhere."""
        return any(server.startswith("https:") for server in self.servers)


def _load(options: AccessOptions, tokens: dict[Path, str]) -> _Loaded:
    if options.kubeconfig:
        changed_ns = _changed_ns(options.kubeconfig)
        kubeconfig = read_kubeconfig(Path(options.kubeconfig), server_known=bool(options.master))
        return _load_kubeconfig(options, kubeconfig, tokens)._replace(changed_ns=changed_ns)
    if options.master:
        whose = "no credentials (--master alone)"
        way = _way(options, options.master, "--master")
        access = Access(way.servers, whose, proxies=way.proxies, authorization=_authorization("", way.login, whose))
        return _Loaded(access, time.monotonic(), way.warnings, fixed=True)
    return _load_service_account(options, tokens)


# Kubeconfig


def _load_kubeconfig(options: AccessOptions, kubeconfig: Kubeconfig, tokens: dict[Path, str]) -> _Loaded:
    cluster, user = kubeconfig.cluster, kubeconfig.user
    _check_user(kubeconfig)
    place = "--master" if options.master else f"{kubeconfig.whose}: server"
    way = _way(options, options.master or cluster.server or "", place, kubeconfig)
    tls = _tls(kubeconfig, named=not options.master)
    warnings = list(way.warnings)
    if not tls.verify:
        warnings.append(
            "the API server's certificate is not verified, anybody can pose as it: remove insecure-skip-tls-verify"
        )
    if options.master and cluster == Cluster() and user == User():
        warnings.append("the kubeconfig selects neither a cluster nor a user: --master is asked without credentials")
    authorization, given = None, None
    if way.secure:  # else nothing of it would be sent, and client-go does not read it either
        token = _token(kubeconfig, tokens)
        login = Login(user.username or "", user.password or "") if user.username or user.password else None
        if user.exec is not None and not (token or login or tls.certificate):
            given = run_plugin(kubeconfig, user.exec, way.servers[0])
            token = given.token
            tls = replace(tls, certificate=given.certificate, key=given.key)
        authorization = _authorization(token, login or way.login, kubeconfig.whose)
    access = Access(way.servers, kubeconfig.whose, tls, way.proxies, authorization, _impersonation(kubeconfig))
    return _Loaded(access, time.monotonic(), tuple(warnings), given=given)


def _check_user(kubeconfig: Kubeconfig) -> None:
    """Raise `AccessError` for what client-go refuses."""
    user = kubeconfig.user
    if user.auth_provider is not None:
        name = printable(str(user.auth_provider.get("name") or "?"))
        raise kubeconfig.error(
            f"auth-provider {name} is no longer supported, by client-go neither: use an exec plugin, a token or a "
            "client certificate"
        )
    if user.token and (user.username or user.password):
        raise kubeconfig.error("its user has both a token and a user name or password: remove one")
    if user.exec is not None:
        check_plugin(kubeconfig, user.exec)
    if (user.as_uid or user.as_groups or user.as_user_extra) and not user.as_:
        raise kubeconfig.error('its user has as-uid, as-groups or as-user-extra without "as": set as, or remove them')


def _tls(kubeconfig: Kubeconfig, *, named: bool) -> TlsFiles:
    """Read the files; the name to expect belongs to the kubeconfig's server, and holds for no other."""
    cluster, user = kubeconfig.cluster, kubeconfig.user
    authority = kubeconfig.pem(
        "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
    )
    if authority is not None and cluster.insecure_skip_tls_verify:
        raise kubeconfig.error("certificate-authority and insecure-skip-tls-verify exclude each other: remove one")
    certificate = kubeconfig.pem("client-certificate", user.client_certificate_data, user.client_certificate)
    key = None
    if certificate is not None:
        key = kubeconfig.pem("client-key", user.client_key_data, user.client_key)
        if key is None:
            raise kubeconfig.error("client-certificate without client-key: set client-key or client-key-data")
    return TlsFiles(
        authority,
        certificate,
        key,
        verify=not cluster.insecure_skip_tls_verify,
        server_name=(cluster.tls_server_name or None) if named else None,
    )


def _token(kubeconfig: Kubeconfig, tokens: dict[Path, str]) -> str:
    """Return the token. One in a file comes first, as it is the one that is renewed."""
    user = kubeconfig.user
    inline = (user.token or "").strip()
    if not user.token_file:
        return inline
    path = kubeconfig.file(user.token_file)
    try:
        return _read_token(path, f"{kubeconfig.whose}: tokenFile {printable(user.token_file)}", tokens)
    except AccessError:
        if not inline:
            raise
        return inline


def _read_token(path: Path, name: str, tokens: dict[Path, str]) -> str:
    """Read a token; where it can't be had any more, the last that could be read is returned."""
    try:
        token = path.read_bytes().decode("ascii", "replace").strip()
        problem = "" if token else "is empty"
    except OSError as error:
        token, problem = "", f"cannot be read: {error.strerror}; is it mounted?"
    except ValueError:
        token, problem = "", "is not the name of a file"
    if not problem:
        tokens[path] = token
    elif path not in tokens:
        raise AccessError(f"{name} {problem}")
    else:
        _log.warning("the token file is of no use now, its last token is used on", file=path, problem=problem)
    return tokens[path]


def _authorization(token: str, login: Login | None, whose: str) -> str | None:
    if token:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise AccessError(f"{whose}: its token holds characters that no token has: write it anew")
        return f"Bearer {token}"
    if login is not None:
        return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    return None


def _impersonation(kubeconfig: Kubeconfig) -> tuple[tuple[str, str], ...]:
    user = kubeconfig.user
    if not user.as_:
        return ()
    pairs = [("Impersonate-User", user.as_)]
    pairs += [("Impersonate-Uid", user.as_uid)] if user.as_uid else []
    pairs += [("Impersonate-Group", group) for group in user.as_groups or ()]
    for name, values in (user.as_user_extra or {}).items():
        header = f"Impersonate-Extra-{percent(name, safe=_HEADER_CHARACTERS)}"
        pairs += [(header, value) for value in values]
    for name, value in pairs:
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise kubeconfig.error(f"{name}: {quote(value)} cannot be sent: it holds control characters")
    return tuple((name, value.encode().decode("latin-1")) for name, value in pairs)  # UTF-8 on the wire, as Go sends it


# Service account


def _in_a_pod(options: AccessOptions) -> bool:
    environ = options.environ
    named = environ.get("KUBERNETES_SERVICE_HOST") and environ.get("KUBERNETES_SERVICE_PORT")
    return bool(named) and (options.service_account / "token").is_file()


def _load_service_account(options: AccessOptions, tokens: dict[Path, str]) -> _Loaded:
    host, port = (options.environ.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
    if not (host and port):
        raise AccessError(
            "no API server is configured: use --kubeconfig FILE or --master URL, or --manifests DIR to do without one "
            "(in a pod, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT would name it)"
        )
    folder = options.service_account
    whose = "service account"
    way = _way(options, f"https://{bracketed(host)}:{port}", "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT")
    token = _read_token(folder / "token", f"service account in {folder}: token", tokens)
    authority, warnings = None, list(way.warnings)
    try:
        authority = (folder / "ca.crt").read_bytes()
    except OSError as error:  # client-go says so and goes on, too
        warnings.append(f"{folder / 'ca.crt'}: {error.strerror}: the system's certificate authorities are trusted")
    if authority is not None and not authority.strip():
        raise AccessError(f"service account in {folder}: ca.crt is empty")
    access = Access(
        way.servers,
        whose,
        TlsFiles(authority),
        way.proxies,
        _authorization(token, None, whose),
        remedy=_POD_REMEDY,
    )
    return _Loaded(access, time.monotonic(), tuple(warnings))


# Servers and proxies


def _way(options: AccessOptions, primary: str, place: str, kubeconfig: Kubeconfig | None = None) -> _Way:
    """Return the servers, the first first, and by which proxy each is asked. Raises `AccessError`."""
    urls = [_server(primary, place), *(_server(text, "apiServers") for text in options.fallbacks)]
    proxy_url = kubeconfig.cluster.proxy_url if kubeconfig is not None else None
    proxies: dict[str, Proxy] = {}
    warnings: dict[str, None] = {}
    for url in urls:
        try:
            proxy = from_kubeconfig(proxy_url) if proxy_url else from_environment(url, options.environ)
        except ProxyTextError as error:
            if not error.ignored:
                raise AccessError(f"{kubeconfig.whose}: {error}" if kubeconfig and proxy_url else str(error)) from error
            warnings[f"{error}; it is passed over"] = None
            proxy = None
        if proxy is not None:
            proxies[str(url)] = proxy
    return _Way(tuple(dict.fromkeys(str(url) for url in urls)), proxies, urls[0].login, tuple(warnings))


def _server(text: str, place: str) -> Url:
    """Return a server's URL. Raises `AccessError`; one without a scheme is never taken for http in silence."""
    url = parse_url(text)
    if url is None or url.scheme not in ("http", "https"):
        shown = quote(without_login(text))
        if "://" not in text and parse_url(f"https://{text}") is not None:
            raise AccessError(f"{place} {shown} has no scheme: write https://{printable(text)}")
        raise AccessError(f"{place} {shown} is not the URL of a server: write https://HOST:PORT")
    return Url(url.scheme, url.host, url.port, url.path.rstrip("/"), url.login)


def _changed_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns if path else 0
    except OSError:
        return 0
