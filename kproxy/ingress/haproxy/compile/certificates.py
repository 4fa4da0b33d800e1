"""Spells an https frontend's certificates as the lines of a crt-list."""

from collections.abc import Iterator, Mapping

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.ingress.haproxy.compile.conditions import digest
from kproxy.ingress.haproxy.text.model import CrtLine
from kproxy.ingress.plan.matching import HostKind
from kproxy.ingress.plan.model import Certificate, Tls


class CrtList(msgspec.Struct, frozen=True):
    """A crt-list, and whether clients that ask for none of its names are refused."""

    lines: tuple[CrtLine, ...]
    strict: bool


def path(key: ObjectKey) -> str:
    """Return where a certificate lies."""
    return f"certs/{digest(*key)}.pem"


def pem(certificate: Certificate) -> str:
    """Return a certificate as HAProxy wants it, all in one."""
    return f"{certificate.chain_pem.strip()}\n{certificate.key_pem.strip()}\n"


def crt_list(tls: Tls, certificates: Mapping[ObjectKey, Certificate]) -> CrtList:
    """Return the lines for some server names: the default certificate first, as HAProxy takes it from there.

    Wildcards of HAProxy's stand for one label. A name of more labels below one gets the default certificate; where
    there is none, that is the wildcard's, so that it is not refused.
    """
    fallback = tls.fallback if tls.fallback in certificates else None
    if fallback is None:
        deep = (name for name in tls.names if name.pattern.kind in (HostKind.WILDCARD, HostKind.ANY))
        fallback = next(
            (key for name in reversed(list(deep)) for key in name.certificates if key in certificates), None
        )
    lines = [] if fallback is None else [CrtLine(path(fallback))]
    lines += _named(tls, certificates)
    return CrtList(tuple(lines), strict=fallback is None)


def _named(tls: Tls, certificates: Mapping[ObjectKey, Certificate]) -> Iterator[CrtLine]:
    seen: set[str] = set()
    for name in tls.names:
        if name.pattern.kind is HostKind.ANY or str(name.pattern) in seen:
            continue
        seen.add(str(name.pattern))
        for key in name.certificates:
            if key in certificates:
                yield CrtLine(path(key), str(name.pattern))
