"""Objects are written by strangers: whatever their strings hold, planning goes on, and nothing odd gets into a plan."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.api.decode import convert_object
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.plan.planner import HttpPlanner
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.plan.walk import Request, find
from kproxy.ingress.status.doors import DoorSettings, pending
from kproxy.ingress.status.reports import Applied, patches
from tests.kit.examples import scaled

STRANGE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["/", "/a", "*", "*.a.com", "a.com", "x", "Service", "Secret", "HTTPRoute", "Exact", "PathPrefix", "Prefix",
         "RegularExpression", "RequestRedirect", "URLRewrite", "RequestHeaderModifier", "ReplacePrefixMatch",
         "ReplaceFullPath", "GET", "10s", "HTTP", "HTTPS", "All", "kproxy", "default", "https", "\n", "a\nb", "'", '"',
         "}", "#", "%[env(PATH)]", "a b", "\\", "${x}", "\x00", "(", "/a\r\nuse_backend x"]
    ),
)  # fmt: skip
NUMBERS = st.one_of(st.integers(-1, 3), st.sampled_from([80, 443, 65535, 65536, 10**9]))
_LISTS = {"rules", "paths", "matches", "filters", "headers", "queryParams", "set", "add", "backendRefs", "parentRefs",
          "listeners", "tls", "ports", "addresses", "kinds", "certificateRefs"}  # fmt: skip


def some(struct: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return JSON that fits a struct, of strange strings."""
    info = msgspec.inspect.type_info(struct)
    return _value(info, depth)


def _value(info: Any, depth: int) -> st.SearchStrategy[Any]:
    if isinstance(info, msgspec.inspect.UnionType):
        options = [option for option in info.types if not isinstance(option, msgspec.inspect.NoneType)]
        return _value(options[0], depth)
    if isinstance(info, msgspec.inspect.StructType):
        fields = {
            field.encode_name: _value(field.type, depth + 1)
            for field in info.fields
            if field.encode_name not in ("status", "metadata")
        }
        required = {name: fields.pop(name) for name in list(fields) if name in ("spec", *_LISTS)} if depth < 9 else {}
        return st.fixed_dictionaries(required, optional=fields)
    if isinstance(info, msgspec.inspect.VarTupleType):
        return st.lists(_value(info.item_type, depth), max_size=2)
    if isinstance(info, msgspec.inspect.DictType):
        return st.dictionaries(STRANGE, STRANGE, max_size=2)
    return NUMBERS if isinstance(info, msgspec.inspect.IntType) else STRANGE


METADATA = st.fixed_dictionaries(
    {"name": st.one_of(st.sampled_from(["x", "default", "kproxy"]), STRANGE.filter(bool))},
    optional={"namespace": st.sampled_from(["default", "x"]), "creationTimestamp": STRANGE, "uid": STRANGE},
)
KINDS = [kind for kind in IngressKind if kind is not IngressKind.ENDPOINT_SLICE]
STRATEGIES = {kind: st.tuples(METADATA, some(kind.struct)) for kind in KINDS}
WORLDS = st.lists(
    st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), STRATEGIES[kind])), min_size=1, max_size=5
)
BASE: list[tuple[IngressKind, dict[str, Any]]] = [
    (IngressKind.GATEWAY_CLASS, {"metadata": {"name": "kproxy"}, "spec": {"controllerName": "kproxy.dev/gateway"}}),
    (
        IngressKind.GATEWAY,
        {
            "metadata": {"name": "gw", "namespace": "default"},
            "spec": {"gatewayClassName": "kproxy", "listeners": [{"name": "x", "port": 8080, "protocol": "HTTP"}]},
        },
    ),
    (
        IngressKind.HTTP_ROUTE,
        {"metadata": {"name": "good", "namespace": "default"}, "spec": {"parentRefs": [{"name": "gw"}]}},
    ),
]


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    return [text for part in value for text in strings(part)] if isinstance(value, list | tuple) else []


def is_plain(value: Any) -> bool:
    """Tell whether all text in a value is of one line of ASCII."""
    return all(" " <= char <= "~" or char == "\t" for text in strings(msgspec.to_builtins(value)) for char in text)


def made_of(world: list[Any], configured: PlanSettings) -> HttpPlanner:
    made = HttpPlanner(configured)
    for kind, raw in [*((kind, {**body, "metadata": metadata}) for kind, (metadata, body) in world), *BASE]:
        found = convert_object(kind, raw).object
        if found is not None:
            made.update(kind, found)
    return made


@given(WORLDS, st.booleans())
@settings(max_examples=scaled(60), deadline=None)
def test_nothing_strange_gets_into_a_plan_and_nothing_breaks(world: list[Any], in_cluster: bool) -> None:
    configured = PlanSettings(in_cluster=in_cluster, without_class=True)
    made = made_of(world, configured)
    planned = made.refresh()
    for frontend in planned.plan.frontends:
        assert is_plain(frontend.listeners)
        assert not any(" " in str(owner) for listener in frontend.listeners for owner in listener.owners)
        find(planned.plan, frontend, Request(host="a.com", path="/a"))
    for key, rule in planned.plan.rules.items():
        assert is_plain(rule)
        assert " " not in str(key)
    assert all(str(problem).isprintable() for problem in planned.problems)
    for patch in patches(made.world, planned, configured, Applied(), "2026-11-26T10:00:00Z"):
        msgspec.json.encode(patch.body)
    if in_cluster:
        assert all(msgspec.json.encode(door.body) for door in pending(made.world, planned, DoorSettings()))
    elif len(made.world.gateways) == 1:
        assert any(frontend.port == 8080 for frontend in planned.plan.frontends)
