"""Lists as a real API server gives them: at which version, in which pages, and when it refuses.

The rules about resourceVersion, resourceVersionMatch, limit and continue are those of the Kubernetes API concepts page;
shapes and messages are held to the recordings in tests/wire.
"""

import base64
import binascii
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tests.kit.apiserver.kinds import Json, Target
from tests.kit.apiserver.rest.selectors import Selector, parse_selector
from tests.kit.apiserver.rest.status import ApiError, invalid_options, too_large
from tests.kit.apiserver.rest.store import ExpiredError, Store, Stored

_LATEST = -1  # the version inside a continue token that asks for the rest, consistent or not


class Continue(NamedTuple):
    """What a continue token holds: the version of the first page, and the key after the last item."""

    version: int
    start: str

    def encode(self) -> str:
        """The token, made as a real server makes it."""
        raw = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": self.version, "start": self.start})
        return base64.urlsafe_b64encode(raw.replace(b"\x00", b"\\u0000")).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> "Continue":
        """Read a token.

        Raises:
            ApiError: 400, it is none.
        """
        try:
            raw = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=_RawContinue)
        except (binascii.Error, ValueError) as error:
            raise ApiError(400, "continue key is not valid") from error
        return cls(raw.rv, raw.start)


class _RawContinue(msgspec.Struct):
    rv: int
    start: str


class ListOptions(NamedTuple):
    """The query parameters that lists and watches share."""

    selector: Selector
    version: str
    match: str
    limit: int
    token: str


def list_options(target: Target, query: Mapping[str, str]) -> ListOptions:
    """Read the query of a list or a watch.

    Raises:
        ApiError: 400 or 422 for what a real server refuses too.
    """
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    if version and not version.isdigit():
        raise ApiError(400, f'invalid resource version: "{version}"')
    if match not in ("", "Exact", "NotOlderThan"):
        raise invalid_options("resourceVersionMatch", f'unsupported value "{match}"')
    try:
        limit = int(query.get("limit") or 0)
    except ValueError as error:
        raise ApiError(400, f'invalid limit: "{query["limit"]}"') from error
    selector = parse_selector(target.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    return ListOptions(selector, version, match, limit, query.get("continue", ""))


def render_list(store: Store, target: Target, query: Mapping[str, str]) -> bytes:
    """Answer a list request.

    Raises:
        ApiError: any of the answers that are not a list.
    """
    options = list_options(target, query)
    _refuse_contradictions(options, query)
    start = Continue.decode(options.token) if options.token else None
    version = _version_to_list(store, options, start)
    try:
        state = store.state(target.kind, version)
    except ExpiredError as error:
        raise expired_list(start) from error
    prefix = f"/{target.namespace}" if target.namespace else ""
    everything = in_namespace(state, target.namespace)
    first = bisect_left(everything, prefix + start.start, key=lambda stored: stored.key) if start is not None else 0
    # As in the real one, a list that may come from the server's cache (version 0) is never cut into pages.
    limit = 0 if options.version == "0" else options.limit
    page, scanned = _take(everything, first, limit, options.selector)
    metadata: Json = {"resourceVersion": str(version)}
    if scanned < len(everything):
        metadata["continue"] = Continue(version, page[-1].key.removeprefix(prefix) + "\0").encode()
        if not options.selector:
            metadata["remainingItemCount"] = len(everything) - scanned
    return b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[%b]}' % (
        target.kind.name.encode(),
        target.kind.api_version.encode(),
        msgspec.json.encode(metadata),
        b",".join([stored.body for stored in page]),
    )


def in_namespace(state: Sequence[Stored], namespace: str) -> Sequence[Stored]:
    """The part of a sorted state that lies in a namespace; all of it for an empty one."""
    if not namespace:
        return state
    low = bisect_left(state, f"/{namespace}/", key=lambda stored: stored.key)
    high = bisect_left(state, f"/{namespace}0", key=lambda stored: stored.key)  # "0" follows "/"
    return state[low:high]


def expired_list(start: Continue | None) -> ApiError:
    """410 for a list; after a continue token with another token, which gives the rest at the latest version."""
    if start is None:
        return ApiError(410, "The resourceVersion for the provided list is too old.")
    return ApiError(410, metadata={"continue": Continue(_LATEST, start.start).encode()})


def _refuse_contradictions(options: ListOptions, query: Mapping[str, str]) -> None:
    if "sendInitialEvents" in query:
        raise invalid_options("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if options.match and not options.version:
        raise invalid_options("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is set")
    if options.match and options.token:
        raise invalid_options("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
    if options.match == "Exact" and options.version == "0":
        raise invalid_options("resourceVersionMatch", '"Exact" is forbidden for resourceVersion "0"')
    if options.token and options.version not in ("", "0"):
        raise ApiError(400, "specifying resource version is not allowed when using continue")


def _version_to_list(store: Store, options: ListOptions, start: Continue | None) -> int:
    current = store.version
    if start is not None:
        return current if start.version == _LATEST else start.version
    wanted = int(options.version or 0)
    if wanted > current:
        raise too_large(wanted, current)
    exact = options.match == "Exact" or (not options.match and options.limit and wanted)
    return wanted if exact else current


def _take(everything: Sequence[Stored], first: int, limit: int, selector: Selector) -> tuple[list[Stored], int]:
    """Up to ``limit`` selected objects (0: all), and the position up to which nothing more needs to be looked at."""
    if not selector:
        end = min(len(everything), first + limit) if limit else len(everything)
        return list(everything[first:end]), end
    page: list[Stored] = []
    position, end = first, first
    for position in range(first, len(everything)):
        stored = everything[position]
        if selector.matches(stored.labels, stored.fields):
            if limit and len(page) == limit:
                return page, end
            page.append(stored)
            end = position + 1
    return page, len(everything)
