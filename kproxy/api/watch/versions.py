"""Comparing resource versions.

They may be compared as numbers, if of objects of the same kind (KEP-5504, and true of every kube-apiserver before it).
Everything that is not a plain number, as from servers that are not Kubernetes' own, can't be compared.
"""


def is_older(version: str, than: str) -> bool:
    """Tell whether ``version`` is certainly older than another."""
    return _is_number(version) and _is_number(than) and int(version) < int(than)


def is_at_most(version: str, than: str) -> bool:
    """Tell whether ``version`` is certainly not newer than another."""
    return version == than or is_older(version, than)


def number(version: str) -> int:
    """Return a version for sorting; what can't be compared comes first."""
    return int(version) if _is_number(version) else -1


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdecimal() and len(version) < 40
