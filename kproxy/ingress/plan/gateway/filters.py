"""What is done with a request: the filters of an HTTPRoute's rule, or of one of its backends. Pure, object by object.

Order among filters means nothing here: each is there at most once, and they change different things (headers of the
request, its host and path, headers of the answer). A redirect is the answer, so that nothing can be done to a request.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from kproxy.ingress.api.httproute import (
    CorsFilter,
    HeaderFilter,
    HTTPRouteFilter,
    MirrorFilter,
    PathModifier,
    RedirectFilter,
    RewriteFilter,
)
from kproxy.ingress.plan import grammar
from kproxy.ingress.plan.action import (
    NO_CHANGES,
    Cors,
    Header,
    HeaderChanges,
    PathChange,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Rewrite,
)
from kproxy.ingress.plan.gateway.cors import read_cors
from kproxy.ingress.plan.grammar import NotUsable
from kproxy.state.findings import is_port
from kproxy.wording import quote

_CODES = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}


class Unsupported(ValueError):  # noqa: N818 - it reads better where it is raised
    """Something of a rule that cannot be done; ``reason`` is Gateway API's word for why."""

    def __init__(self, message: str, reason: str = "UnsupportedValue") -> None:
        super().__init__(message)
        self.reason = reason


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """What the filters of a rule come to. Paths are still as the filters say; see `changed_path`."""

    request_headers: HeaderChanges = NO_CHANGES
    response_headers: HeaderChanges = NO_CHANGES
    redirect: RedirectFilter | None = None
    rewrite: RewriteFilter | None = None
    mirrors: tuple[MirrorFilter, ...] = ()
    cors: Cors | None = None
    fails: str = ""
    """Why all requests have to be answered with an error: a filter is somebody else's, and nobody knows it."""

    @property
    def replaces_prefix(self) -> bool:
        """Whether what is done to a path depends on the prefix that matched."""
        modifier = (self.redirect or self.rewrite or RewriteFilter()).path
        return modifier is not None and modifier.type == "ReplacePrefixMatch"


def read_filters(filters: Sequence[HTTPRouteFilter], *, of_backend: bool = False) -> Actions:
    """Return what filters come to. Raises `Unsupported`."""
    types = [found.type for found in filters]
    repeated = [kind for kind in dict.fromkeys(types) if types.count(kind) > 1 and kind not in _REPEATABLE]
    if repeated:
        raise Unsupported(f"filter {repeated[0]} is there twice", "IncompatibleFilters")
    if "RequestRedirect" in types and "URLRewrite" in types:
        raise Unsupported("filters RequestRedirect and URLRewrite cannot be combined", "IncompatibleFilters")
    if "RequestRedirect" in types and "CORS" in types:
        raise Unsupported("filters RequestRedirect and CORS cannot be combined", "IncompatibleFilters")
    actions = Actions()
    for found in filters:
        read = _BACKEND_FILTERS.get(found.type) if of_backend else _FILTERS.get(found.type)
        if read is None:
            where = "of a backend " if of_backend and found.type in _FILTERS else ""
            raise Unsupported(f"filter {where}{quote(found.type)} is not supported")
        actions = read(found, actions)
    return actions


def redirect(filter_: RedirectFilter, prefix: str | None) -> Redirect:
    """Return the redirect for requests that matched ``prefix`` (None: not by a prefix). Raises `Unsupported`.

    Without a port, it is that of the scheme where one is given, else the listener's own.
    """
    if filter_.scheme is not None and filter_.scheme not in _PORTS:
        raise Unsupported(f"scheme {quote(filter_.scheme)} is not one of http, https")
    if filter_.port is not None and not is_port(filter_.port):
        raise Unsupported(f"port {filter_.port} is not in 1-65535")
    code = 302 if filter_.status_code is None else filter_.status_code
    if code not in _CODES:
        raise Unsupported(f"status code {code} is not one of {', '.join(map(str, _CODES))}")
    return Redirect(
        scheme=filter_.scheme,
        host=_checked(grammar.precise_host, filter_.hostname) if filter_.hostname is not None else None,
        port=filter_.port or (_PORTS[filter_.scheme] if filter_.scheme else None),
        path=_changed_path(filter_.path, prefix),
        code=code,
    )


def rewrite(filter_: RewriteFilter, prefix: str | None) -> Rewrite:
    """Return the change for requests that matched ``prefix`` (None: not by a prefix). Raises `Unsupported`."""
    host = _checked(grammar.precise_host, filter_.hostname) if filter_.hostname is not None else None
    return Rewrite(host=host, path=_changed_path(filter_.path, prefix))


def mirrored_part(filter_: MirrorFilter) -> tuple[int, int]:
    """Return numerator and denominator of the requests that are copied. Raises `Unsupported`."""
    if filter_.percent is not None and filter_.fraction is not None:
        raise Unsupported("a mirror has percent and fraction, one of which is enough")
    if filter_.fraction is None:
        numerator, denominator = (100 if filter_.percent is None else filter_.percent), 100
    else:
        numerator = filter_.fraction.numerator
        denominator = 100 if filter_.fraction.denominator is None else filter_.fraction.denominator
    if not 0 <= numerator <= denominator or denominator < 1:
        raise Unsupported(f"{numerator}/{denominator} is no part of all requests")
    return numerator, denominator


def _changed_path(modifier: PathModifier | None, prefix: str | None) -> PathChange | None:
    if modifier is None:
        return None
    if modifier.type == "ReplaceFullPath" and modifier.replace_full_path is not None:
        return ReplaceFullPath(_checked(grammar.replacement, modifier.replace_full_path))
    if modifier.type == "ReplacePrefixMatch" and modifier.replace_prefix_match is not None:
        if prefix is None:
            raise Unsupported("ReplacePrefixMatch needs matches of type PathPrefix")
        return ReplacePrefix(prefix, _checked(grammar.replacement, modifier.replace_prefix_match).removesuffix("/"))
    if modifier.type in ("ReplaceFullPath", "ReplacePrefixMatch"):
        raise Unsupported(f"a path of type {modifier.type} has no value of that type")
    raise Unsupported(f"path type {quote(modifier.type)} is not one of ReplaceFullPath, ReplacePrefixMatch")


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except NotUsable as error:
        raise Unsupported(str(error)) from error


def _header_changes(filter_: HeaderFilter | None) -> HeaderChanges:
    """Read changes of headers: of several with one name the first holds, as the API says of each list."""
    if filter_ is None:
        raise Unsupported("a filter for headers has none")
    taken: set[str] = set()
    return HeaderChanges(
        set=tuple(_headers(((header.name, header.value) for header in filter_.set or ()), taken)),
        add=tuple(_headers(((header.name, header.value) for header in filter_.add or ()), taken)),
        remove=tuple(header.name for header in _headers(((name, "") for name in filter_.remove or ()), taken)),
    )


def _headers(pairs: Iterable[tuple[str, str]], taken: set[str]) -> list[Header]:
    found = []
    mine: set[str] = set()
    for name, value in pairs:
        header = Header(_checked(grammar.changeable_header, name), _checked(grammar.value, value))
        key = name.lower()
        if key in taken:
            raise Unsupported(f"header {quote(name)} is changed in two ways")
        if key not in mine:
            mine.add(key)
            found.append(header)
    taken |= mine
    return found


def _request_headers(found: HTTPRouteFilter, actions: Actions) -> Actions:
    return msgspec.structs.replace(actions, request_headers=_header_changes(found.request_header_modifier))


def _response_headers(found: HTTPRouteFilter, actions: Actions) -> Actions:
    return msgspec.structs.replace(actions, response_headers=_header_changes(found.response_header_modifier))


def _redirect(found: HTTPRouteFilter, actions: Actions) -> Actions:
    if found.request_redirect is None:
        raise Unsupported("a redirect says nothing")
    return msgspec.structs.replace(actions, redirect=found.request_redirect)


def _rewrite(found: HTTPRouteFilter, actions: Actions) -> Actions:
    if found.url_rewrite is None:
        raise Unsupported("a rewrite says nothing")
    return msgspec.structs.replace(actions, rewrite=found.url_rewrite)


def _mirror(found: HTTPRouteFilter, actions: Actions) -> Actions:
    if found.request_mirror is None:
        raise Unsupported("a mirror says nothing")
    mirrored_part(found.request_mirror)
    return msgspec.structs.replace(actions, mirrors=(*actions.mirrors, found.request_mirror))


def _cors(found: HTTPRouteFilter, actions: Actions) -> Actions:
    try:
        return msgspec.structs.replace(actions, cors=read_cors(found.cors or CorsFilter()))
    except NotUsable as error:
        raise Unsupported(f"filter CORS: {error}") from error


def _extension(_: HTTPRouteFilter, actions: Actions) -> Actions:
    """Note that requests must fail: a filter that nobody knows must not be skipped."""
    return msgspec.structs.replace(actions, fails="filter ExtensionRef refers to an object of no known kind")


_Read = Callable[[HTTPRouteFilter, Actions], Actions]
_BACKEND_FILTERS: dict[str, _Read] = {
    "RequestHeaderModifier": _request_headers,
    "ResponseHeaderModifier": _response_headers,
    "RequestRedirect": _redirect,
    "URLRewrite": _rewrite,
}
_FILTERS: dict[str, _Read] = _BACKEND_FILTERS | {
    "RequestMirror": _mirror,
    "CORS": _cors,
    "ExtensionRef": _extension,
}
_REPEATABLE = ("RequestMirror", "ExtensionRef")
