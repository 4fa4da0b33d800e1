"""Which proxy the way to a server leads through, if any: Go's rules, by which every other client on a node goes.

Source: golang.org/x/net/http/httpproxy for the environment, net/http for what a proxy may be, client-go's clientcmd for
``proxy-url``. Nobody is ever asked for localhost or a loopback address but the proxy that a kubeconfig names itself;
ALL_PROXY is not known. Pure: an environment and a URL in, a proxy out.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from kproxy.api.transport.urls import Login, Url, bracketed, parse_url, without_login
from kproxy.wording import quote

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443, "socks5": 1080}
_VARIABLES: Mapping[str, tuple[str, str]] = {
    "http": ("HTTP_PROXY", "http_proxy"),
    "https": ("HTTPS_PROXY", "https_proxy"),
}
_EXEMPT = ("NO_PROXY", "no_proxy")
_MAPPED_BITS = 96
"""The prefix under which IPv6 maps the addresses of IPv4."""
_BEGINS_WITH_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]")
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxy(NamedTuple):
    """A proxy as it is spoken to; the host stands without brackets."""

    scheme: str
    """``http``, ``https`` or ``socks5``. A SOCKS proxy resolves names itself, as in Go."""
    host: str
    port: int
    login: Login | None = None
    origin: str = ""
    """Where it was named, for messages: ``HTTPS_PROXY``."""

    def __str__(self) -> str:
        """Return its URL, without user and password."""
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


class ProxyTextError(ValueError):
    """A proxy that is none. Its text is one line, with the remedy."""

    def __init__(self, text: str, *, ignored: bool = False) -> None:
        super().__init__(text)
        self.ignored = ignored
        """Whether Go goes on without it, too."""


def from_environment(server: Url, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for requests to a server by HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

    Names in capitals come first, and what is empty is not there. Raises `ProxyTextError` if one is needed and is none.
    """
    name, text = _first(environ, _VARIABLES.get(server.scheme, ()))
    if not text or _is_exempt(server, _first(environ, _EXEMPT)[1]):
        return None
    url = parse_url(text if _BEGINS_WITH_SCHEME.match(text) else f"http://{text}")
    place = f"environment variable {name}"
    if url is None:
        raise ProxyTextError(f"{place} is no proxy's URL: {_show(text)}; write http://HOST:PORT", ignored=True)
    return _proxy(url, f"{place}: {_show(text)}", name, ("http", "https", "socks5", "socks5h"))


def from_kubeconfig(text: str) -> Proxy:
    """Return the proxy that a cluster's ``proxy-url`` names; it holds for every server. Raises `ProxyTextError`."""
    url = parse_url(text)
    if url is None:
        raise ProxyTextError(f"proxy-url is no proxy's URL: {_show(text)}; write http://HOST:PORT")
    return _proxy(url, f"proxy-url: {_show(text)}", "proxy-url", ("http", "https", "socks5"))


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    return next(((name, environ[name]) for name in names if environ.get(name)), ("", ""))


def _proxy(url: Url, place: str, origin: str, schemes: tuple[str, ...]) -> Proxy:
    if url.scheme not in schemes:
        raise ProxyTextError(f"{place}: only http, https and socks5 proxies are supported")
    scheme = url.scheme.removesuffix("h")
    return Proxy(scheme, url.host, url.port or DEFAULT_PORTS[scheme], url.login, origin)


def _show(text: str) -> str:
    return quote(without_login(text))


# NO_PROXY


class _Entry(NamedTuple):
    """One entry of NO_PROXY: everything, a network, an address, or a name with those below it."""

    network: _Network | None = None
    suffix: str = ""
    itself: bool = False
    """Whether the name without its leading dot is meant as well as those below it."""
    port: str = ""
    everything: bool = False

    def covers(self, host: str, address: _Address | None, port: str) -> bool:
        """Tell whether nobody is to be asked for a host; ``address`` is what it is, where it is one."""
        if self.everything:
            return True
        if self.port and self.port != port:
            return False
        if address is not None:
            return self.network is not None and address in self.network
        return bool(self.suffix) and (host.endswith(self.suffix) or (self.itself and host == self.suffix[1:]))


def _is_exempt(server: Url, no_proxy: str) -> bool:
    """Tell whether nobody is to be asked for a server. What is local is so, whatever NO_PROXY says."""
    if server.host == "localhost":
        return True
    address = _address(server.host)
    if address is not None and address.is_loopback:
        return True
    host = _ascii(server.host).lower()
    port = str(server.port or DEFAULT_PORTS[server.scheme])
    return any(entry.covers(host, address, port) for entry in _entries(no_proxy))


def _entries(no_proxy: str) -> Iterator[_Entry]:
    for text in no_proxy.split(","):
        entry = _entry(text.strip().lower())
        if entry is not None:
            yield entry


def _entry(text: str) -> _Entry | None:
    if text == "*":
        return _Entry(everything=True)
    network = _network(text)
    if network is not None:
        return _Entry(network)
    host, port = _split_port(text)
    if not host:
        return None
    address = None if "%" in host else _address(host)
    if address is not None:
        return _Entry(ipaddress.ip_network(address), port=port)
    host = host[1:] if host.startswith("*.") else host
    itself = not host.startswith(".")
    return _Entry(suffix=_ascii(f".{host}" if itself else host), itself=itself, port=port)


def _split_port(text: str) -> tuple[str, str]:
    """Split ``HOST:PORT`` as Go's net.SplitHostPort does; what it refuses is a host as a whole, brackets included."""
    pattern = r"\[([^\[\]]*)\]:([^:\[\]]*)" if text.startswith("[") else r"([^:\[\]]*):([^:\[\]]*)"
    match = re.fullmatch(pattern, text)
    return (match[1], match[2]) if match else (text, "")


def _network(text: str) -> _Network | None:
    address, _, prefix = text.partition("/")
    if not (prefix.isascii() and prefix.isdecimal()) or "%" in address:
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = _address(str(network.network_address))
    if network.version == 6 and isinstance(mapped, ipaddress.IPv4Address) and network.prefixlen >= _MAPPED_BITS:
        return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED_BITS}")
    return network


def _address(text: str) -> _Address | None:
    """Return an address; where IPv6 only stands for one of IPv4, that: Go does not tell them apart."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # without its zone
    return address


def _ascii(name: str) -> str:
    try:
        return ".".join(label if label.isascii() else label.encode("idna").decode() for label in name.split("."))
    except UnicodeError:
        return name
