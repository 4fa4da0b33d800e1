"""Which path of an Ingress takes a request: the API's table, and what the longest and the exact ones mean."""

import pytest

from tests.ingress.kit import backend_of, planned, problems, service


def ingress(*paths: tuple[str, str, str], host: str = "shop.example.com") -> str:
    listed = "\n".join(
        f"      - {{path: {path!r}, pathType: {kind}, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}"
        for path, kind, name in paths
    )
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: shop}}
spec:
  rules:
  - host: {host}
    http:
      paths:
{listed}
"""


@pytest.mark.parametrize(
    ("kind", "path", "requested", "matches"),
    [
        ("Prefix", "/", "/", True),
        ("Prefix", "/", "/any/path", True),
        ("Exact", "/foo", "/foo", True),
        ("Exact", "/foo", "/bar", False),
        ("Exact", "/foo", "/foo/", False),
        ("Exact", "/foo/", "/foo", False),
        ("Exact", "/foo/", "/foo/", True),
        ("Exact", "/foo", "/FOO", False),
        ("Prefix", "/foo", "/foo", True),
        ("Prefix", "/foo", "/foo/", True),
        ("Prefix", "/foo/", "/foo", True),
        ("Prefix", "/foo/", "/foo/", True),
        ("Prefix", "/aaa/bb", "/aaa/bbb", False),
        ("Prefix", "/aaa/bbb", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb/", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", False),
        ("Prefix", "/aaa/bbb", "/AAA/bbb", False),
        ("ImplementationSpecific", "/foo", "/foo/bar", True),
        ("ImplementationSpecific", "/foo", "/foobar", False),
    ],
)
def test_one_path(kind: str, path: str, requested: str, *, matches: bool) -> None:
    plan = planned(ingress((path, kind, "web")), service("web"))
    assert backend_of(plan, "shop.example.com", requested) == ("default/web:80" if matches else "404")


@pytest.mark.parametrize(
    ("requested", "name"),
    [
        ("/", "root"),
        ("/aaa", "short"),
        ("/aaa/ccc", "short"),
        ("/aaa/bbb", "exact"),
        ("/aaa/bbb/", "long"),
        ("/aaa/bbb/ccc", "long"),
        ("/aaa/bbbx", "short"),
        ("/aaax", "root"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_exact_wins_over_prefix_and_long_over_short(requested: str, name: str, *, turned: bool) -> None:
    paths = [
        ("/", "Prefix", "root"),
        ("/aaa", "Prefix", "short"),
        ("/aaa/bbb/", "Prefix", "long"),
        ("/aaa/bbb", "Exact", "exact"),
    ]
    names = ("root", "short", "long", "exact")
    plan = planned(ingress(*(reversed(paths) if turned else paths)), *map(service, names))
    assert backend_of(plan, "shop.example.com", requested) == f"default/{name}:80"


@pytest.mark.parametrize(
    ("path", "kind", "complaint"),
    [
        ("foo", "Prefix", "does not begin with a slash"),
        ("/a b", "Prefix", "is no path"),
        ("/a?b", "Exact", "is no path"),
        ("/a\\nb", "Exact", "is no path"),
        ("/ä", "Exact", "is no path"),
        ("/a//b", "Exact", "is not normal"),
        ("/a/../b", "Prefix", "is not normal"),
        ("/a%2Fb", "Prefix", "is not normal"),
        ("/a%zz", "Prefix", "is no path"),
        ("/" + "a" * 1024, "Prefix", "is longer than"),
        ("/good", "Regex", "'Regex' is not one of Exact, Prefix, ImplementationSpecific"),
        ("/a(|b)", "ImplementationSpecific", "for regular expressions use an HTTPRoute"),
    ],
)
def test_a_bad_path_is_left_out_and_named(path: str, kind: str, complaint: str) -> None:
    plan = planned(ingress(("/good", "Prefix", "web"), (path, kind, "other")), service("web"), service("other"))
    assert backend_of(plan, "shop.example.com", "/good/x") == "default/web:80"
    assert list(plan.plan.rules) == [key for key in plan.plan.rules if key.rule == 0]
    (problem,) = problems(plan)
    assert problem.startswith("Ingress default/shop: spec.rules[0].http.paths[1].path")
    assert complaint in problem


def test_a_path_of_no_type_says_nothing_of_regular_expressions_being_meant() -> None:
    plan = planned(ingress(("/a(.*)", "ImplementationSpecific", "web")), service("web"))
    assert backend_of(plan, "shop.example.com", "/a(.*)") == "default/web:80"
    assert "is taken literally" in problems(plan)[0]
