"""The documents that programs may rely on are described, field by field."""

import re
from collections.abc import Iterator

import msgspec
import pytest

from kproxy.explain.model import Answer, Difference, ElementFound, EndpointShare, Flow, FrontendShown, RulePassed
from kproxy.held.changes import Change, Changes, FamilyChanges
from kproxy.report.status import FamilyState, ServiceProblem, ServiceRate, Status, WatchState
from tests.kit.deploy.manifests import DEPLOY

EXPLAIN = (Answer, Difference, ElementFound, EndpointShare, Flow, FrontendShown, RulePassed)
DIFF = (Changes, Change, FamilyChanges)
STATUS = (Status, FamilyState, ServiceProblem, ServiceRate, WatchState)


def section(heading: str) -> str:
    text = (DEPLOY / "docs/explain.md").read_text()
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def fields(structs: tuple[type[msgspec.Struct], ...]) -> Iterator[str]:
    for struct in structs:
        yield from struct.__struct_encode_fields__


@pytest.mark.parametrize(("heading", "structs"), [("explain", EXPLAIN), ("diff", DIFF), ("status", STATUS)])
def test_every_field_is_described(heading: str, structs: tuple[type[msgspec.Struct], ...]) -> None:
    described = set(re.findall(r"`(\w+)`", section(heading)))
    assert set(fields(structs)) - described == set()


def test_every_field_of_a_table_is_there() -> None:
    for heading, structs in (("explain", EXPLAIN), ("status", STATUS)):
        rows = [row.split("|")[1] for row in section(heading).splitlines() if row.startswith("| `")]
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        assert named - set(fields(structs)) == set()
