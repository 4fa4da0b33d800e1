"""Connections to the servers of one access: urllib3's pools, one manager for each proxy, and who may shut them.

Connections to a proxy that is itself spoken to over TLS are verified as those to the server are: with the kubeconfig's
authority and the name that it asks for, as Go has it.
"""

import base64
import contextlib
import functools
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from urllib3.exceptions import InsecureRequestWarning

from kproxy.api.transport.access import Access, tls_context
from kproxy.api.transport.proxies import Proxy

_KEPT = 16
"""Idle connections to one server. Each kind has a watch of its own, events and lists come on top."""
_KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),  # milliseconds for what was sent to be acknowledged
]


class Connections:
    """Remembers all connections, so that `shut` finds the socket that some thread waits on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closed = False

    def make(self, connection_class: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        """Make one. Raises OSError after `shut`."""
        with self._lock:
            if self._closed:
                raise OSError("kproxy is stopping")
            connection = connection_class(*args, **settings)
            self._open.add(connection)
            return connection

    def shut(self) -> None:
        """Break off whatever is under way, now and ever after."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        for connection in connections:
            shut(connection)


def shut(connection: Any) -> None:
    """Have whoever waits on a connection see its end; it need not be one any more."""
    sock = getattr(connection, "sock", None)
    sock = getattr(sock, "socket", sock)  # what lies under TLS within a proxy's TLS
    if sock is None:
        return
    with contextlib.suppress(OSError):
        # Not SSLSocket's own method: that pulls the TLS state from under the thread that is reading.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Pools:
    """The pools for one access.

    Raises `kproxy.api.transport.access.AccessError` when made of certificates that are no use.
    """

    def __init__(self, access: Access, connections: Connections) -> None:
        self._access = access
        self._connections = connections
        self._context = tls_context(access)
        self._lock = threading.Lock()
        self._managers: dict[Proxy | None, urllib3.PoolManager] = {}
        if not access.tls.verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # `Credentials` has warned, better

    def to(self, server: str) -> urllib3.PoolManager:
        """Return the manager to ask a server with."""
        proxy = self._access.proxies.get(server)
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._make_manager(proxy)
            return self._managers[proxy]

    def clear(self) -> None:
        """Close what is idle."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def _make_manager(self, proxy: Proxy | None) -> urllib3.PoolManager:
        settings: dict[str, Any] = {
            "ssl_context": self._context,
            "server_hostname": self._access.tls.server_name,
            "socket_options": _KEEPALIVE,
            "maxsize": _KEPT,
        }
        if proxy is None:
            manager = urllib3.PoolManager(**settings)
        elif proxy.scheme == "socks5":
            manager = _socks_manager(proxy, settings)
        else:
            manager = urllib3.ProxyManager(
                str(proxy),
                proxy_headers=_proxy_headers(proxy),
                proxy_ssl_context=self._proxy_context(proxy),
                proxy_assert_hostname=self._access.tls.server_name if self._access.tls.verify else None,
                **settings,
            )
        manager.pool_classes_by_scheme = {
            scheme: functools.partial(self._make_pool, pool_class)  # type: ignore[misc]
            for scheme, pool_class in manager.pool_classes_by_scheme.items()
        }
        return manager

    def _proxy_context(self, proxy: Proxy) -> ssl.SSLContext | None:
        """Return a context of the proxy's own: urllib3 changes it when it is to look for another name."""
        return tls_context(self._access) if proxy.scheme == "https" else None

    def _make_pool(self, pool_class: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        pool = pool_class(*args, **settings)
        pool.ConnectionCls = functools.partial(self._connections.make, pool.ConnectionCls)
        return pool


def _proxy_headers(proxy: Proxy) -> Mapping[str, str]:
    if proxy.login is None:
        return {}
    pair = f"{proxy.login.user}:{proxy.login.password}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode()}


def _socks_manager(proxy: Proxy, settings: Mapping[str, Any]) -> urllib3.PoolManager:
    from urllib3.contrib.socks import SOCKSProxyManager  # PySocks is for those who have such a proxy

    login = proxy.login
    return SOCKSProxyManager(
        str(proxy._replace(scheme="socks5h")),  # the proxy resolves names
        username=login.user if login else None,
        password=login.password if login else None,
        **settings,
    )
