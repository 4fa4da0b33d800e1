"""What can go wrong between a ruleset and the kernel, each said in one line with its remedy."""

import errno
import os

from kproxy.backends.base import BackendError, MissingError


class NoNftablesError(MissingError):
    """Something that this backend needs is not there: the library, a feature of the kernel, a privilege."""


class KernelRefusedError(BackendError):
    """A transaction failed, and all of it: what was in force before still is."""

    def __init__(self, text: str) -> None:
        self.code = _code(text)
        """errno; 0 where libnftables didn't even ask the kernel."""
        remedy = _REMEDIES.get(self.code)
        super().__init__(f"nftables: {_first_lines(text)}" + (f"; {remedy}" if remedy else ""))

    @property
    def may_be_a_services_fault(self) -> bool:
        """Whether it can help to leave out a service."""
        return self.code not in _NO_SERVICES_FAULT


class NetlinkError(BackendError):
    """The kernel would not tell what it holds."""

    def __init__(self, doing: str, code: int) -> None:
        remedy = _REMEDIES.get(code)
        super().__init__(f"nftables: {doing}: {os.strerror(code)}" + (f"; {remedy}" if remedy else ""))
        self.code = code


_PRIVILEGE = "kproxy needs the capability NET_ADMIN (run it as root or privileged)"
_REMEDIES = {
    errno.EPERM: _PRIVILEGE,
    errno.EACCES: _PRIVILEGE,
    errno.ENOMEM: "the kernel has no memory for a table of this size; raise the node's or the cgroup's limit",
    errno.EOPNOTSUPP: "the kernel lacks a part of nf_tables; use mode iptables",
}
_NO_SERVICES_FAULT = {
    *_REMEDIES,
    *(errno.ENOBUFS, errno.EMSGSIZE, errno.EINTR, errno.EAGAIN, errno.EMFILE, errno.ENFILE),
}
_CODES = {os.strerror(code): code for code in errno.errorcode}


def _code(text: str) -> int:
    """Return the error number behind libnftables' words, which end in the C library's."""
    return _CODES.get(text.splitlines()[0].rpartition(": ")[2].strip() if text else "", 0)


def _first_lines(text: str, most: int = 300) -> str:
    """Return what went wrong and with which command; libnftables shows the place by a line of its own below."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t^~")]
    said = ": ".join(lines[:2]).partition("Error: ")
    told = said[2] or said[0]
    return told if len(told) <= most else f"{told[:most]}…"
