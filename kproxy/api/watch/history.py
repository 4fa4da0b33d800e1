"""Whether the server's history is still the one that is known: what tells of a backup of etcd that was put back.

Then resource versions fall, a watch from a version of the old history is silent until the new one gets there, and what
changed meanwhile is never told (kubernetes/kubernetes#107457). But two things are true of one history, and cheap to ask
for: the server is nowhere behind the place that was reached, and the object that changed last up to that place is as it
was left, or has changed after the place. Versions of one kind compare as numbers (KEP-5504). Pure.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kproxy.api.types import ApiObject, ObjectKey
from kproxy.api.watch.versions import is_at_most, is_older, number
from kproxy.wording import printable


class Seen(NamedTuple):
    """The change of one kind that was seen last."""

    key: ObjectKey
    version: str
    gone: bool = False
    """Whether the object was deleted, or left the selection."""


class Glimpse(NamedTuple):
    """What the server says now: its version, and that of the object which changed last; None where there is none."""

    version: str
    of_object: str | None = None


def last_of(objects: Iterable[ApiObject]) -> Seen | None:
    """Return the object of a list that changed last; None where there is none."""
    last = max(objects, key=lambda obj: number(obj.metadata.resource_version), default=None)
    return None if last is None else Seen(last.metadata.key, last.metadata.resource_version)


def contradiction(place: str, seen: Seen | None, glimpse: Glimpse) -> str | None:
    """Return why what the server says can't follow from what was seen up to ``place``; None where it can.

    The object may have changed after the place, or be deleted: the watch will tell.
    """
    if is_older(glimpse.version, place):
        return f"it is at resource version {printable(glimpse.version)}, and was at {printable(place)}"
    if seen is None or glimpse.of_object in (None, seen.version):
        return None
    if not is_at_most(glimpse.of_object or "", place):
        return None
    was = "gone" if seen.gone else "changed"
    now = printable(glimpse.of_object or "")
    return f"{seen.key} is at resource version {now}, and was {was} at {printable(seen.version)}"


def is_missing(seen: Seen | None, glimpse: Glimpse) -> bool:
    """Tell whether the object is no longer there: either its deletion is still to be told, or it never will be."""
    return seen is not None and not seen.gone and glimpse.of_object is None
