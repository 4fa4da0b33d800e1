"""Whatever strangers write in objects, HAProxy reads the sections that the plan asked for, and no other.

The planner refuses most of this text before; here nothing does, so that two walls stand behind each other.
"""

import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kproxy.ingress.haproxy.compile.frontends import name_of
from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.text.model import NO_BACKEND, NO_ROUTE
from kproxy.ingress.haproxy.text.quoting import quoted, socket_word
from kproxy.ingress.plan.action import (
    BackendKey,
    Cors,
    Header,
    HeaderChanges,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Rewrite,
    Rule,
    RuleKey,
    WeightedBackend,
)
from kproxy.ingress.plan.matching import (
    ANY_HOST,
    ANY_PATH,
    HostKind,
    HostPattern,
    Match,
    PathKind,
    PathMatch,
    ValueKind,
    ValueMatch,
)
from kproxy.ingress.plan.model import (
    Backend,
    Bind,
    Endpoint,
    Frontend,
    Host,
    Listener,
    ListenerKey,
    Plan,
    Protocol,
    Route,
)
from tests.kit.examples import scaled

pytestmark = pytest.mark.kernel

SPECIAL = " \t\"'\\$#%{}[]()<>|&;,:=!*?^~`@+-/.\x7f\u00e4\u2028"
WORDS = (
    "${HOME}",
    "%[env(HOME)]",
    "%%",
    "if TRUE",
    "unless",
    '" if TRUE "',
    "\\x0a",
    "\\n",
    "#",
    "-f",
    "--",
    "str(a)",
    "@1",
    "<<",
)

texts = st.one_of(
    st.sampled_from(WORDS),
    st.text(st.sampled_from(SPECIAL + "aA0"), min_size=1, max_size=12),
    st.builds(str.__add__, st.sampled_from(WORDS), st.text(st.sampled_from(SPECIAL), max_size=4)),
)
paths = texts.map(lambda text: "/" + re.sub(r"\s", "", text))
headers = st.lists(st.builds(Header, texts, texts), max_size=2).map(tuple)
changes = st.builds(HeaderChanges, set=headers, add=headers, remove=st.lists(texts, max_size=2).map(tuple))
path_changes = st.one_of(st.builds(ReplaceFullPath, paths), st.builds(ReplacePrefix, paths, paths))
values = st.lists(st.builds(ValueMatch, texts, st.just(ValueKind.EXACT), texts), max_size=2).map(tuple)
path_matches = st.one_of(
    st.just(ANY_PATH),
    st.builds(PathMatch, st.sampled_from([PathKind.EXACT, PathKind.PREFIX]), paths),
    st.builds(PathMatch, st.just(PathKind.REGEX), texts.map(re.escape)),
)
matches = st.builds(Match, path=path_matches, method=st.one_of(st.none(), texts), headers=values, query=values)
names = st.lists(texts, max_size=2).map(tuple)
cors = st.builds(
    Cors, origins=texts.map(re.escape), methods=names, headers=names, exposed=names, credentials=st.booleans()
)
keys = st.builds(RuleKey, st.just("HTTPRoute"), texts, texts, st.integers(0, 3))
backend_keys = st.builds(BackendKey, texts, texts, st.integers(1, 65535))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any text everywhere."""
    backend = draw(backend_keys)
    rules = []
    for key in draw(st.lists(keys, min_size=1, max_size=3, unique=True)):
        if draw(st.booleans()):
            redirect = Redirect(host=draw(st.one_of(st.none(), texts)), path=draw(st.one_of(st.none(), path_changes)))
            rules.append(Rule(key=key, redirect=redirect, response_headers=draw(changes)))
            continue
        rewrite = Rewrite(host=draw(texts), path=draw(path_changes))
        choices = draw(st.integers(1, 2))
        rules.append(
            Rule(
                key=key,
                rewrite=rewrite,
                request_headers=draw(changes),
                response_headers=draw(changes),
                cors=draw(st.one_of(st.none(), cors)),
                backends=tuple(
                    WeightedBackend(backend=backend, weight=n + 1, request_headers=draw(changes))
                    for n in range(choices)
                ),
            )
        )
    routes = tuple(Route(draw(matches), rule.key) for rule in rules)
    hosts = {ANY_HOST, *draw(st.lists(st.builds(HostPattern, st.sampled_from(list(HostKind)[:3]), texts), max_size=3))}
    listener = Listener(
        pattern=ANY_HOST,
        owners=(ListenerKey("Gateway", draw(texts), draw(texts), draw(texts)),),
        hosts=tuple(Host(pattern, routes) for pattern in sorted(hosts, key=repr)),
    )
    return Plan(
        frontends=(Frontend(binds=(Bind("", 8000),), port=8000, protocol=Protocol.HTTP, listeners=(listener,)),),
        rules={rule.key: rule for rule in rules},
        backends={backend: Backend(key=backend, endpoints=(Endpoint("10.0.0.1", 80),))},
    )


def proxies(engine: Engine) -> list[str]:
    """Return all frontends and backends that HAProxy has read."""
    lines = engine.ask("show stat -1 3 -1").splitlines()
    return sorted(line.split(",")[0] for line in lines[1:])


@settings(phases=[Phase.generate], max_examples=scaled(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans())
def test_no_text_of_an_object_becomes_configuration(running: Engine, plan: Plan) -> None:
    report = running.apply(plan)
    assert report.refused == []
    configuration = running.configuration()
    assert configuration is not None
    wanted = [name_of(plan.frontends[0]), NO_ROUTE, NO_BACKEND, "latency", *configuration.slots]
    assert proxies(running) == sorted(wanted)


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_what_is_quoted_holds_nothing_that_haproxy_gives_a_meaning_to(text: str) -> None:
    inner = quoted(text)[1:-1]
    assert re.fullmatch(r"(?:[^\x00-\x1f\x7f-\U0010ffff\"'$%`\\]|\\x[0-9a-f]{2})*", inner)
    octets = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), inner.encode())
    assert octets.decode() == text


@given(text=st.text(st.sampled_from("a;\\ /~"), max_size=20))
def test_a_word_for_the_runtime_socket_stays_one(text: str) -> None:
    assert not re.search(r"(?<!\\)(?:\\\\)*[; ]", socket_word(text))
