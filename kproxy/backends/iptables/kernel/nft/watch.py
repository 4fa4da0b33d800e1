"""Notices what others do to the tables that iptables-nft keeps in nftables.

The kernel tells subscribers about every change of the ruleset (NFNLGRP_NFTABLES), table and chain by name, so changes
that don't concern kproxy's chains cost next to nothing. It would also tell about kproxy's own commits, tens of
thousands of messages for a large one; so nobody listens during those, and the kernel's generation number, which every
commit raises by one, tells afterwards whether there was another commit among them.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from kproxy.backends.iptables.kernel.errors import NEEDED_PRIVILEGE, NoIptablesError
from kproxy.backends.iptables.rules.names import KUBE_FIREWALL, is_ours
from kproxy.backends.iptables.rules.render import BUILTIN_CHAINS
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import IPFamily

# From linux/netlink.h, linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_GETGEN, _NEWGEN = 16, 15
_TABLE_MESSAGES = {0, 2}
_CHAIN_MESSAGES = {3, 5}
_RULE_MESSAGES = {6, 8}
_TABLE_ATTRIBUTE = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
_CHAIN_NAME, _RULE_CHAIN = 3, 2
_GENERATION = 1  # NFTA_GEN_ID
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_FAMILY_HEADER = struct.Struct("=BBH")  # struct nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_FAMILY_NUMBERS = {IPFamily.IPV4: socket.AF_INET, IPFamily.IPV6: socket.AF_INET6}
RECEIVE_SIZE = 1 << 16


class NftWatch:
    """Watches one family's filter and nat tables, in the network namespace it was made in."""

    def __init__(self, family: IPFamily) -> None:
        """Raises NoIptablesError where nftables is not to be had."""
        self._family = _FAMILY_NUMBERS[family]
        self._changed = True
        try:
            self._requests = open_socket()
            self._events = open_socket()
        except OSError as err:
            raise NoIptablesError(f"no netlink to the kernel's nftables: {err.strerror}") from err
        self._generation()

    def close(self) -> None:
        """Close its sockets."""
        self._requests.close()
        self._events.close()

    def changed(self) -> bool:
        """Tell whether anybody else has changed what concerns kproxy since `start`, or may have."""
        self._listen()
        return self._changed

    def start(self) -> None:
        """Watch from here on; all before is forgotten."""
        self._subscribe()
        self._listen()
        self._changed = False

    def forget(self) -> None:
        """Be changed, until the next `start`."""
        self._changed = True

    @contextmanager
    def own_commits(self, count: int) -> Iterator[None]:
        """Look away while that many commits of our own are made."""
        before = self._generation()
        self._events.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, _GROUP_NFTABLES)
        self._listen()  # to what came before
        yield
        self._subscribe()
        if self._generation() != before + count:
            self._changed = True

    def _subscribe(self) -> None:
        self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def _generation(self) -> int:
        self._requests.send(request(_GETGEN, None, _NLM_F_REQUEST))
        for kind, message in messages(self._requests.recv(RECEIVE_SIZE)):
            if kind == _SUBSYSTEM_NFTABLES << 8 | _NEWGEN:
                return int.from_bytes(attributes(message)[_GENERATION], "big")
            if kind == _NLMSG_ERROR:
                code = -int.from_bytes(message[:4], "little", signed=True)
                hint = f"; {NEEDED_PRIVILEGE}" if code == errno.EPERM else ""
                raise NoIptablesError(f"the kernel's nftables does not answer: {os.strerror(code)}{hint}")
        raise NoIptablesError("the kernel's nftables does not answer")

    def _listen(self) -> None:
        """Take in what the kernel has told since the last time."""
        while True:
            try:
                data = self._events.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as err:
                if err.errno != errno.ENOBUFS:
                    raise
                self._changed = True  # more was told than was listened to
                continue
            if not self._changed:
                self._changed = any(self._concerns(kind, message) for kind, message in messages(data))

    def _concerns(self, kind: int, message: bytes) -> bool:
        what = kind & 0xFF
        if kind >> 8 != _SUBSYSTEM_NFTABLES or message[0] != self._family:
            return False
        if what not in _TABLE_MESSAGES | _CHAIN_MESSAGES | _RULE_MESSAGES:
            return False
        found = attributes(message)
        table = text(found[_TABLE_ATTRIBUTE])
        if table not in set(TableName):
            return False
        if what in _TABLE_MESSAGES:
            return True
        chain = text(found[_CHAIN_NAME if what in _CHAIN_MESSAGES else _RULE_CHAIN])
        name = TableName(table)
        return is_ours(name, chain) or chain in BUILTIN_CHAINS[name] or chain == KUBE_FIREWALL


def open_socket() -> socket.socket:
    """Return a socket to the kernel's netfilter, in the calling thread's network namespace. Raises OSError."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    opened.bind((0, 0))
    return opened


def request(kind: int, family: IPFamily | None, flags: int) -> bytes:
    """Return a request to nf_tables without attributes, for one family or about none."""
    body = _FAMILY_HEADER.pack(_FAMILY_NUMBERS[family] if family else 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM_NFTABLES << 8 | kind, flags, 0, 0) + body


def text(attribute: bytes) -> str:
    """Return an attribute that is a text."""
    return attribute.rstrip(b"\0").decode(errors="replace")


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each netlink message's type and what follows its header."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_padded(length) :]


def attributes(message: bytes) -> dict[int, bytes]:
    """Return the attributes behind a netfilter message's family header, by type."""
    attributes = {}
    data = message[_FAMILY_HEADER.size :]
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        attributes[kind & _TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[_padded(length) :]
    return attributes


def _padded(length: int) -> int:
    return (length + 3) & ~3
