"""Whether an object may refer to one in another namespace. Source: ReferenceGrant, and GEP-709."""

from collections.abc import Iterable
from typing import NamedTuple

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.gateway import GROUP, ReferenceGrant


class Referrer(NamedTuple):
    """Who refers: any object of a kind in a namespace."""

    kind: str
    namespace: str
    group: str = GROUP


class Grants:
    """All ReferenceGrants, by what they are asked for."""

    def __init__(self, grants: Iterable[ReferenceGrant]) -> None:
        self._allowed: set[tuple[Referrer, str, str, str | None]] = set()
        for grant in grants:
            namespace = grant.metadata.namespace
            for origin in grant.spec.from_ or ():
                referrer = Referrer(origin.kind, origin.namespace, origin.group)
                for to in grant.spec.to or ():
                    if to.group == "":
                        self._allowed.add((referrer, to.kind, namespace, to.name or None))

    def allow(self, referrer: Referrer, kind: str, target: ObjectKey) -> bool:
        """Tell whether a reference to an object of the core group (a Service, a Secret) is in order."""
        if referrer.namespace == target.namespace:
            return True
        return any((referrer, kind, target.namespace, name) in self._allowed for name in (None, target.name))
