"""Hosts of Ingresses: exact ones, wildcards of one label, none; several Ingresses that share them; default backends."""

import pytest

from kproxy.ingress.plan.matching import HostKind
from tests.ingress.kit import backend_of, frontend, planned, problems, service


def ingress(
    name: str, *rules: tuple[str, str, str], created: str = "", default: str = "", namespace: str = "default"
) -> str:
    """Return an Ingress of rules (host, path, Service)."""
    listed = "\n".join(
        f"  - {{{f'host: {host!r}, ' if host else ''}http: {{paths: [{{path: {path}, pathType: Prefix,"
        f" backend: {{service: {{name: {target}, port: {{name: http}}}}}}}}]}}}}"
        for host, path, target in rules
    )
    stamp = f", creationTimestamp: '{created}'" if created else ""
    backend = f"  defaultBackend: {{service: {{name: {default}, port: {{number: 80}}}}}}" if default else ""
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: {namespace}{stamp}}}
spec:
{backend}
{f"  rules:{chr(10)}{listed}" if rules else ""}
"""


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("bar.foo.com", "bar.foo.com", True),
        ("bar.foo.com", "BAR.foo.com", True),
        ("bar.foo.com", "bar.foo.com:8080", True),
        ("bar.foo.com", "bar.foo.com.", True),
        ("bar.foo.com", "foo.com", False),
        ("bar.foo.com", "x.bar.foo.com", False),
        ("*.foo.com", "bar.foo.com", True),
        ("*.foo.com", "baz.bar.foo.com", False),
        ("*.foo.com", "foo.com", False),
        ("", "whatever.example", True),
        ("", "192.0.2.1", True),
        ("", "", True),
    ],
)
def test_one_host(pattern: str, host: str, *, matches: bool) -> None:
    plan = planned(ingress("a", (pattern, "/", "web")), service("web"))
    assert backend_of(plan, host) == ("default/web:80" if matches else "404")


def test_exact_host_then_wildcard_then_any() -> None:
    plan = planned(
        ingress("a", ("", "/", "any"), ("*.foo.com", "/", "wild"), ("bar.foo.com", "/", "exact")),
        *map(service, ("any", "wild", "exact")),
    )
    assert [host.pattern.kind for host in frontend(plan).listeners[0].hosts] == [
        HostKind.EXACT,
        HostKind.WILDCARD_ONE,
        HostKind.ANY,
    ]
    assert backend_of(plan, "bar.foo.com") == "default/exact:80"
    assert backend_of(plan, "baz.foo.com") == "default/wild:80"
    assert backend_of(plan, "foo.com") == "default/any:80"


def test_what_no_path_of_the_exact_host_wants_goes_to_the_wider_rules() -> None:
    plan = planned(
        ingress("a", ("", "/any", "any"), ("*.foo.com", "/wild", "wild"), ("bar.foo.com", "/exact", "exact")),
        *map(service, ("any", "wild", "exact")),
    )
    assert backend_of(plan, "bar.foo.com", "/exact") == "default/exact:80"
    assert backend_of(plan, "bar.foo.com", "/wild") == "default/wild:80"
    assert backend_of(plan, "bar.foo.com", "/any") == "default/any:80"
    assert backend_of(plan, "bar.foo.com", "/none") == "404"


def test_ingresses_of_one_host_are_put_together() -> None:
    plan = planned(
        ingress("a", ("foo.com", "/a", "one")), ingress("b", ("foo.com", "/b", "two")), *map(service, ("one", "two"))
    )
    assert backend_of(plan, "foo.com", "/a") == "default/one:80"
    assert backend_of(plan, "foo.com", "/b") == "default/two:80"
    assert not problems(plan)


def test_the_oldest_wins_a_conflict_and_the_other_is_told() -> None:
    younger = ingress("a", ("foo.com", "/x", "one"), ("foo.com", "/y", "one"), created="2026-01-02T00:00:00Z")
    older = ingress("b", ("foo.com", "/x", "two"), created="2026-01-01T00:00:00Z")
    plan = planned(younger, older, *map(service, ("one", "two")))
    assert backend_of(plan, "foo.com", "/x") == "default/two:80"
    assert backend_of(plan, "foo.com", "/y") == "default/one:80"
    assert problems(plan) == [
        "Ingress default/a: path 0: foo.com prefix '/x' is already Ingress/default/b/0's, which goes first"
    ]


def test_of_one_age_the_first_by_namespace_and_name_wins() -> None:
    plan = planned(
        ingress("b", ("foo.com", "/", "web"), namespace="alpha"),
        ingress("a", ("foo.com", "/", "web"), namespace="beta"),
        service("web", "alpha"),
        service("web", "beta"),
    )
    assert backend_of(plan, "foo.com") == "alpha/web:80"


def test_default_backend_takes_what_is_left() -> None:
    plan = planned(ingress("a", ("foo.com", "/x", "web"), default="rest"), *map(service, ("web", "rest")))
    assert backend_of(plan, "foo.com", "/x") == "default/web:80"
    assert backend_of(plan, "foo.com", "/other") == "default/rest:80"
    assert backend_of(plan, "other.com") == "default/rest:80"


def test_an_ingress_of_a_default_backend_alone() -> None:
    plan = planned(ingress("a", default="rest"), service("rest"))
    assert backend_of(plan, "anything.example", "/x/y") == "default/rest:80"


def test_everybody_has_the_own_default_backend_for_the_own_hosts_and_the_oldest_for_all_others() -> None:
    plan = planned(
        ingress("a", ("a.com", "/x", "web"), default="mine", created="2026-01-02T00:00:00Z"),
        ingress("b", ("b.com", "/x", "web"), default="yours", created="2026-01-01T00:00:00Z"),
        *map(service, ("web", "mine", "yours")),
    )
    assert backend_of(plan, "a.com") == "default/mine:80"
    assert backend_of(plan, "b.com") == "default/yours:80"
    assert backend_of(plan, "c.com") == "default/yours:80"
    assert not problems(plan)


def test_a_rule_for_all_hosts_goes_before_a_default_backend() -> None:
    plan = planned(
        ingress("a", default="rest", created="2026-01-01T00:00:00Z"),
        ingress("b", ("", "/", "web"), created="2026-01-02T00:00:00Z"),
        *map(service, ("web", "rest")),
    )
    assert backend_of(plan, "c.com") == "default/web:80"


@pytest.mark.parametrize(
    "host", ["a b.com", "-a.com", "a..com", "10.0.0.1", "*", "a.*.com", "**.com", "a.com;x", "ä.com"]
)
def test_a_bad_host_is_left_out_and_named(host: str) -> None:
    plan = planned(ingress("a", (host, "/", "bad"), ("foo.com", "/", "web")), *map(service, ("bad", "web")))
    assert backend_of(plan, "foo.com") == "default/web:80"
    assert [str(key) for key in plan.plan.rules] == ["Ingress/default/a/1"]
    (problem,) = problems(plan)
    assert problem.startswith("Ingress default/a: spec.rules[0].host: ")
