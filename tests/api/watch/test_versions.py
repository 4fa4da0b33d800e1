"""Comparing resource versions."""

import pytest

from kproxy.api.watch.versions import is_older


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("9", "10", True),
        ("10", "9", False),
        ("10", "10", False),
        ("", "10", False),
        ("10", "", False),
        ("a9", "b1", False),
        ("٣", "9", False),
        ("-1", "5", False),
        ("1" * 5000, "5", False),
    ],
)
def test_versions(version: str, than: str, older: bool) -> None:
    assert is_older(version, than) is older
