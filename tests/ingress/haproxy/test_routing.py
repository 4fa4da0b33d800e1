"""HAProxy finds the very rule that the plan's own definition finds, for any plan and any request."""

import itertools
import random
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.plan.action import Redirect, Rule, RuleKey
from kproxy.ingress.plan.matching import (
    ANY_HOST,
    HostKind,
    HostPattern,
    Match,
    PathKind,
    PathMatch,
    ValueKind,
    ValueMatch,
)
from kproxy.ingress.plan.model import Bind, Frontend, Host, Listener, ListenerKey, Plan, Protocol, Route
from kproxy.ingress.plan.regex import whole
from kproxy.ingress.plan.walk import Request, find
from tests.ingress.haproxy.kit import get
from tests.kit.examples import scaled

pytestmark = pytest.mark.kernel

PORT = 8000
HOSTS = (
    "a.example.com",
    "b.a.example.com",
    "c.b.a.example.com",
    "example.com",
    "other.org",
    "x.other.org",
    "aexample.com",
)
PATHS = ("", "/a", "/a/b", "/a/b/c", "/ab", "/b", "/a;x=1", "/~!$&'()*+,=:@", "/%2Fa")
ODD = ("v", "", "a b", 'q"\\', "%41", "x&y=z", "#$(){}[]|^*+?.", "V", "a, b")
REGEXES = ("^(?:[av].*)$", "(?i)^(?:v)$", "^(?:a b|x&y=z)$", "^(?:)$")

WILDCARDS = [
    HostPattern(kind, name)
    for kind in (HostKind.WILDCARD_ONE, HostKind.WILDCARD)
    for name in ("example.com", "a.example.com", "other.org")
]
PATH_REGEXES = ("^(?:/a/[a-z]+)$", "(?i)^(?:/A.*)$", "^(?:/[^b]*)$")

patterns = st.sampled_from([*(HostPattern(HostKind.EXACT, name) for name in HOSTS[:5]), *WILDCARDS, ANY_HOST])
paths = st.one_of(
    st.builds(PathMatch, st.just(PathKind.PREFIX), st.sampled_from(PATHS)),
    st.builds(PathMatch, st.just(PathKind.EXACT), st.sampled_from([*PATHS[1:], "/", "/a/"])),
    st.builds(
        PathMatch, st.just(PathKind.REGEX), st.sampled_from(["^(?:/a/[a-z]+)$", "(?i)^(?:/A.*)$", "^(?:/[^b]*)$"])
    ),
)


def values(*names: str) -> st.SearchStrategy[tuple[ValueMatch, ...]]:
    one = st.one_of(
        st.builds(ValueMatch, st.sampled_from(names), st.just(ValueKind.EXACT), st.sampled_from(ODD)),
        st.builds(ValueMatch, st.sampled_from(names), st.just(ValueKind.REGEX), st.sampled_from(REGEXES)),
    )
    return st.lists(one, max_size=2, unique_by=lambda match: match.name).map(lambda found: tuple(sorted(found)))


plain = st.builds(Match, path=paths)
demanding = st.builds(
    Match,
    path=paths,
    method=st.sampled_from([None, None, "GET", "POST"]),
    headers=values("x-one", "x.two"),
    query=values("one", "t'w o"[:1], "q+p"),
)
alike = st.builds(Match, path=paths, method=st.sampled_from(["GET", "POST"]))
"""Many that ask the same beside the path."""
matches = st.lists(st.one_of(plain, demanding, alike), max_size=6, unique_by=repr)
hosts = st.lists(st.tuples(patterns, matches), max_size=4, unique_by=lambda host: host[0])
listeners = st.lists(st.tuples(patterns, hosts), min_size=1, max_size=3, unique_by=lambda one: one[0])


def specific(pattern: HostPattern) -> tuple[int, int]:
    return list(HostKind).index(pattern.kind), -len(pattern.name)


def plan_of(drawn: list[tuple[HostPattern, list[tuple[HostPattern, list[Match]]]]]) -> Plan:
    """Every match has a rule of its own, a redirect whose target says which it is."""
    counter = itertools.count()
    rules: dict[RuleKey, Rule] = {}

    def route(match: Match) -> Route:
        key = RuleKey("HTTPRoute", "default", "route", next(counter))
        rules[key] = Rule(key=key, redirect=Redirect(scheme="http", port=80, host=f"rule-{key.rule}.test"))
        return Route(match, key)

    made = [
        Listener(
            pattern=pattern,
            owners=(ListenerKey("Gateway", "default", "gate", str(number)),),
            hosts=tuple(
                Host(host, tuple(map(route, matches)))
                for host, matches in sorted(below, key=lambda one: specific(one[0]))
            ),
        )
        for number, (pattern, below) in enumerate(sorted(drawn, key=lambda one: specific(one[0])))
    ]
    frontend = Frontend(binds=(Bind("", PORT),), port=PORT, protocol=Protocol.HTTP, listeners=tuple(made))
    return Plan(frontends=(frontend,), rules=rules)


def requests(plan: Plan, number: int) -> Iterator[Request]:
    """Requests near what the plan asks for."""
    chance = random.Random(number)  # noqa: S311
    every = [route.match for one in plan.frontends[0].listeners for host in one.hosts for route in host.routes] or [
        Match()
    ]
    for _ in range(number):
        near = chance.choice(every)
        path = (
            near.path.value if near.path.kind is not PathKind.REGEX and chance.random() < 0.7 else chance.choice(PATHS)
        )
        headers = {one.name: chance.choice([one.value, *ODD]) for one in near.headers if chance.random() < 0.9}
        query = {one.name: chance.choice([one.value, *ODD]) for one in near.query if chance.random() < 0.9}
        yield Request(
            host=chance.choice([*HOSTS, "A.Example.COM.", "a.example.com:8000"]),
            path=(path + chance.choice(["", "", "/", "/b", "/more/of/it"])) or "/",
            method=near.method or chance.choice(["GET", "POST"]),
            headers={name: value.strip() for name, value in headers.items()},
            query=query,
        )


def encoded(query: dict[str, str], chance: random.Random) -> str:
    """Spell a query in one of the many ways."""

    def spell(text: str) -> str:
        return "".join(
            char
            if char.isalnum() and chance.random() < 0.7
            else chance.choice(["%{:02x}", "%{:02X}"]).format(ord(char))
            for char in text
        )

    return "&".join(f"{spell(name)}={spell(value)}" for name, value in query.items())


@settings(
    phases=[Phase.explicit, Phase.generate],
    max_examples=scaled(10),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(drawn=listeners, seed=st.integers(0, 1000))
def test_the_rule_is_the_plans(running: Engine, drawn: list, seed: int) -> None:  # type: ignore[type-arg]
    plan = plan_of(drawn)
    report = running.apply(plan)
    assert not report.refused
    chance = random.Random(seed)  # noqa: S311
    for request in requests(plan, 40):
        asked = request.path + (f"?{encoded(dict(request.query), chance)}" if request.query else "")
        answer = get(request.host, asked, port=PORT, method=request.method, headers=request.headers)
        found = find(plan, plan.frontends[0], request)
        wanted = f"http://rule-{found.rule.key.rule}.test{asked}" if found.rule else None
        assert answer.headers.get("location") == wanted, (request, asked, found.route)
        assert answer.status == (302 if found.rule else 404)


def test_a_quoted_path_is_compared_as_it_came(running: Engine) -> None:
    plan = plan_of([(ANY_HOST, [(ANY_HOST, [Match(path=PathMatch(PathKind.EXACT, "/a%20b"))])])])
    running.apply(plan)
    assert get("x.org", quote("/a b"), port=PORT).status == 302
    assert get("x.org", "/a+b", port=PORT).status == 404


def test_a_request_without_a_host_is_anybodys(running: Engine) -> None:
    plan = plan_of([(ANY_HOST, [(ANY_HOST, [Match()]), (HostPattern(HostKind.EXACT, "a.org"), [])])])
    running.apply(plan)
    assert get("", "/", port=PORT).status == 302


def test_a_header_cannot_pose_as_another(running: Engine) -> None:
    match = Match(headers=(ValueMatch("x-admin", ValueKind.EXACT, "yes"),))
    plan = plan_of([(ANY_HOST, [(ANY_HOST, [match])])])
    running.apply(plan)
    assert get("x.org", port=PORT, headers={"X-Admin": "yes"}).status == 302
    for name, value in (("X-Other", "x-admin: yes"), ("Y-X-Admin", "yes"), ("X-Admin", "yes!"), ("X-Admin", "no yes")):
        assert get("x.org", port=PORT, headers={name: value}).status == 404
    for query in ("?x-admin:%20yes", "?%0d%0ax-admin:%20yes%0d%0a", "?a%0Ax-admin: yes".replace(" ", "+")):
        assert get("x.org", f"/{query}", port=PORT).status == 404


def test_the_longer_of_two_prefixes_is_met_where_both_ask_for_the_same_method(running: Engine) -> None:
    paths = [PathMatch(PathKind.PREFIX, path) for path in ("/a/b", "/a", "")]
    matches = [Match(path=path, method="GET") for path in paths]
    running.apply(plan_of([(ANY_HOST, [(ANY_HOST, matches)])]))
    for number, path in enumerate(("/a/b/c", "/a/c", "/c")):
        assert get("x.org", path, port=PORT).headers["location"] == f"http://rule-{number}.test{path}"
        assert get("x.org", path, port=PORT, method="POST").status == 404


def test_one_expression_may_be_asked_for_by_many_hosts(running: Engine) -> None:
    match = Match(headers=(ValueMatch("x-one", ValueKind.REGEX, "^(?:[ab]+)$"),))
    hosts = [(HostPattern(HostKind.EXACT, f"h{number}.org"), [match]) for number in range(100)]
    assert not running.apply(plan_of([(ANY_HOST, hosts)])).refused
    for number in (0, 42, 99):
        answer = get(f"h{number}.org", port=PORT, headers={"X-One": "abba"})
        assert answer.status == 302, number
        assert get(f"h{number}.org", port=PORT, headers={"X-One": "c"}).status == 404


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("q+p=a+b", 302),
        ("q%2Bp=a%20b", 302),
        ("o=1&%71%2b%70=x%26y%3Dz&q+p=no", 302),
        ("q+p", 302),
        ("q+p=&o", 302),
        ("q+p=no&q+p=a+b", 404),
        ("q+p=x&y=z", 404),
        ("a+b", 404),
        ("=a+b", 404),
        ("q+pp=a+b", 404),
        ("o=q+p", 404),
    ],
)
def test_an_expression_is_for_the_first_parameter_of_its_name_however_that_is_spelt(
    running: Engine, query: str, code: int
) -> None:
    match = Match(query=(ValueMatch("q+p", ValueKind.REGEX, "^(?:a b|x&y=z|)$"),))
    running.apply(plan_of([(ANY_HOST, [(ANY_HOST, [match])])]))
    assert get("x.org", f"/?{query}", port=PORT).status == code


@pytest.mark.parametrize("regex", ["/(?:a|a)*b", "/(?:a|aa)*b", "/.*a.*a.*a.*a.*a.*b"])
def test_an_expression_that_could_take_forever_is_cut_off(running: Engine, regex: str) -> None:
    match = Match(path=PathMatch(PathKind.REGEX, whole(regex)))
    running.apply(plan_of([(ANY_HOST, [(ANY_HOST, [match])])]))
    assert get("x.org", f"/{'a' * 30}b", port=PORT).status == 302
    for path in (f"/{'a' * 40}b!", f"/{'a' * 4000}b!"):  # without a limit, most of these outlast the client
        assert get("x.org", path, port=PORT).status == 404


def test_of_equal_matches_in_two_hosts_the_more_specific_one_is_met(running: Engine) -> None:
    match = Match(path=PathMatch(PathKind.REGEX, "^(?:/a+)$"))
    plan = plan_of([(ANY_HOST, [(HostPattern(HostKind.EXACT, "a.org"), [match]), (ANY_HOST, [match])])])
    running.apply(plan)
    assert get("a.org", "/aa", port=PORT).headers["location"] == "http://rule-0.test/aa"
    assert get("b.org", "/aa", port=PORT).headers["location"] == "http://rule-1.test/aa"
