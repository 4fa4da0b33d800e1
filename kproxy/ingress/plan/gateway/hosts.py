"""Where the host names of a listener and those of a route meet. Source: HTTPRouteSpec.hostnames."""

from kproxy.ingress.plan.matching import HostKind, HostPattern


def intersection(one: HostPattern, other: HostPattern) -> HostPattern | None:
    """Return the hosts that two patterns (exact, wildcard for any number of labels, any) have in common; or None.

    It is always the narrower of the two: patterns of these kinds are nested or have nothing in common.
    """
    if _contains(one, other):
        return other
    return one if _contains(other, one) else None


def _contains(wide: HostPattern, narrow: HostPattern) -> bool:
    if wide.kind is HostKind.ANY or wide == narrow:
        return True
    return wide.kind is HostKind.WILDCARD and narrow.kind is not HostKind.ANY and narrow.name.endswith(f".{wide.name}")
