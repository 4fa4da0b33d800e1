"""Regular expressions: what is taken, what is refused, and that what is taken matches whole values in every engine."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.ingress.plan.grammar import NotUsable
from kproxy.ingress.plan.regex import whole


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("/v[0-9]+/users", "/v12/users", "/v12/users/"),
        ("a|b", "b", "ab"),
        ("(?i)abc", "ABC", "ABCD"),
        ("(?:x|y){2,3}", "xyx", "x"),
        (r"\d+\.\d", "12.3", "12x3"),
        (r"[^/]+", "abc", "a/b"),
        (r"(?:[^/]+/)*end", "a/b/end", "end/"),
        ("a*?b+?", "aabb", "aa"),
        ("", "", "x"),
        (r"[\w.\-]+@x", "a.b-c@x", "a b@x"),
        ("(v[0-9]{1,3}/){1,5}x", "v1/v2/x", "x"),
        ("^/x$", "/x", "/xx"),
    ],
)
def test_what_is_taken(text: str, matching: str, other: str) -> None:
    pattern = whole(text)
    assert re.search(pattern, matching)
    assert not re.search(pattern, other)


@pytest.mark.parametrize(
    "text",
    [
        "(", ")", "a)", "(a", "[a", "[]a]", "a{", "a{1001}", "a{1,2000}", "{1}", "*a", "+", "a**", "a+*", "a++", "a??+",
        "(?=x)", "(?!x)", "(?<=x)y", "(?P<n>x)", "(?<n>x)", "(?#c)", "(?>x)", "a(?i)b", "(?s).",
        r"(a)\1", r"\Qa\E", r"\pL", r"\x41", r"\u0041", r"\z", r"\A", r"\R", "\\", r"[\b]", "[[:alpha:]]", "[a&&b]",
        "(a+)+", "(a*)*", "(.*,)*", r"(\w+\s?)*", "(a|b+)*", "((a+)b?)*", "(a{1,})+", "([a-z]+)*x",
        "\n", "a\x00", "ä", "a\r\nb", "x" * 1025, "(" * 30 + ")" * 30,
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(NotUsable) as error:
        whole(text)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 250


@given(st.text(alphabet="ab1/.-[](){}*+?|^$\\,:=!<>&'\"#%; \tdws", max_size=30))
def test_what_is_taken_is_a_regular_expression(text: str) -> None:
    try:
        pattern = whole(text)
    except NotUsable:
        return
    compiled = re.compile(pattern)
    assert compiled.groups == re.compile(text.removeprefix("(?i)")).groups


@given(st.text(alphabet="ab/.-[]()*+?|^$\\", max_size=12), st.text(alphabet="ab/.-", max_size=6))
def test_it_matches_what_matches_as_a_whole(text: str, value: str) -> None:
    try:
        pattern = whole(text)
    except NotUsable:
        return
    assert bool(re.search(pattern, value)) is bool(re.fullmatch(text, value))


def test_haproxy_takes_what_is_taken(tmp_path: Path) -> None:
    """All expressions above, in one configuration that HAProxy checks."""
    taken = ["/v[0-9]+/users", "(?:x|y){2,3}", r"\d+\.\d", r"(?:[^/]+/)*end", "a*?b+?", r"[\w.\-]+@x", r"\bx\B", "a]b"]
    rules = "\n".join(f"    http-request deny if {{ path -m reg '{whole(text)}' }}" for text in taken)
    file = tmp_path / "haproxy.cfg"
    file.write_text(f"defaults\n    mode http\n    timeout client 1s\nfrontend f\n    bind 127.0.0.1:8080\n{rules}\n")
    done = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
