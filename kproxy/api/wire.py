"""What the API server wraps objects in: lists, watch events and statuses, cut down to what is used.

Events are a tagged union on their ``type``, so that msgspec decodes a line of a watch in one pass, object included.
Source: k8s.io/apimachinery meta/v1.
"""

from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")


class StatusCause(msgspec.Struct, frozen=True):
    """One of the details of a Status."""

    reason: str | None = None
    message: str | None = None


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a Status that machines are meant to read."""

    retry_after_seconds: int | None = None
    causes: tuple[StatusCause, ...] | None = None


class Status(msgspec.Struct, frozen=True):
    """meta/v1 Status: how the API server says what went wrong."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


class Added(msgspec.Struct, Generic[T], frozen=True, gc=False, tag_field="type", tag="ADDED"):
    """An object that is new, to this watch at least."""

    object: T


class Modified(msgspec.Struct, Generic[T], frozen=True, gc=False, tag_field="type", tag="MODIFIED"):
    """An object that has changed."""

    object: T


class Deleted(msgspec.Struct, Generic[T], frozen=True, gc=False, tag_field="type", tag="DELETED"):
    """An object that is gone, or no longer selected; its last state, with the resource version of its going."""

    object: T


class BookmarkAnnotations(msgspec.Struct, frozen=True):
    """The one annotation a bookmark may bear."""

    initial_events_end: str | None = msgspec.field(default=None, name="k8s.io/initial-events-end")


class BookmarkMeta(msgspec.Struct, frozen=True, rename="camel"):
    """All that a bookmark has to say."""

    resource_version: str = ""
    annotations: BookmarkAnnotations | None = None


class BookmarkObject(msgspec.Struct, frozen=True):
    """An object of the watched kind, of which nothing is filled in but this."""

    metadata: BookmarkMeta = BookmarkMeta()


class Bookmark(msgspec.Struct, frozen=True, tag_field="type", tag="BOOKMARK"):
    """Nothing but a resource version up to which everything has been sent (KEP-956)."""

    object: BookmarkObject

    @property
    def resource_version(self) -> str:
        """Where to resume from."""
        return self.object.metadata.resource_version

    @property
    def ends_initial_events(self) -> bool:
        """Whether this closes the list part of a streaming list (KEP-3157)."""
        annotations = self.object.metadata.annotations
        return annotations is not None and annotations.initial_events_end == "true"


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="ERROR"):
    """The server gives this watch up."""

    object: Status


Event: TypeAlias = Added[Any] | Modified[Any] | Deleted[Any] | Bookmark | Error


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Where the list stands in the server's history, and how to get at the next page."""

    resource_version: str = ""
    continue_: str | None = msgspec.field(default=None, name="continue")


class List(msgspec.Struct, Generic[T], frozen=True):
    """A list, or one page of it."""

    metadata: ListMeta
    items: tuple[T, ...] | None = None
