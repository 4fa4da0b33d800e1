"""What strangers wrote is shown as text: it ends no line, moves no cursor and turns no direction."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.tools import diff, status
from kproxy.tools.explained import as_text
from kproxy.tools.screen import as_json, harmless
from tests.kit.hostile import EVIL, answer, changes, how_it_does


def shown(text: str) -> Iterator[str]:
    """Everything that the three commands print where every text of theirs is this one."""
    yield as_text(harmless(answer(text)))
    yield diff.told(changes(text), json=False)[0]
    yield status.as_text(how_it_does(text))


def lines_of(text: str) -> list[list[str]]:
    return [one.split("\n") for one in shown(text)]


def test_nothing_steers_the_terminal_and_nothing_forges_a_line() -> None:
    for evil, plain in zip(lines_of(EVIL), lines_of("plain"), strict=True):
        assert len(evil) == len(plain)
        assert all(line.isprintable() for line in evil)
        assert max(map(len, evil)) < 20_000


@given(text=st.text(min_size=1))
def test_whatever_it_is(text: str) -> None:
    for evil, plain in zip(lines_of(text), lines_of("plain"), strict=True):
        assert len(evil) == len(plain)
        assert all(line.isprintable() for line in evil)


@pytest.mark.parametrize(
    "document", [answer(EVIL), changes(EVIL), how_it_does(EVIL)], ids=["explain", "diff", "status"]
)
def test_json_is_whole_and_harmless_too(document: msgspec.Struct) -> None:
    text = as_json(document)
    assert all(line.isprintable() and line.isascii() for line in text.splitlines())
    told: Any = json.loads(text)
    assert told == json.loads(msgspec.json.encode(document))
