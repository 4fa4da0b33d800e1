"""What of an answer contradicts the history that is known, and what is only missing."""

import pytest

from kproxy.api.types import ObjectKey
from kproxy.api.watch.history import Glimpse, Seen, contradiction, is_missing

A = ObjectKey("d", "a")


@pytest.mark.parametrize(
    ("place", "seen", "glimpse", "contradicts"),
    [
        ("10", None, Glimpse("10"), False),
        ("10", None, Glimpse("9"), True),
        ("10", None, Glimpse("100"), False),
        ("10", Seen(A, "7"), Glimpse("12", "7"), False),
        ("10", Seen(A, "7"), Glimpse("12", "12"), False),
        ("10", Seen(A, "7"), Glimpse("12", "6"), True),
        ("10", Seen(A, "7"), Glimpse("12", "8"), True),
        ("10", Seen(A, "7"), Glimpse("12", "10"), True),
        ("10", Seen(A, "7"), Glimpse("12", None), False),
        ("10", Seen(A, "7", gone=True), Glimpse("12", None), False),
        ("10", Seen(A, "7", gone=True), Glimpse("12", "3"), True),
        ("10", Seen(A, "7", gone=True), Glimpse("12", "7"), False),
        ("10", Seen(A, "7", gone=True), Glimpse("12", "11"), False),
        ("x", Seen(A, "y"), Glimpse("z", "w"), False),
    ],
)
def test_contradiction(place: str, seen: Seen | None, glimpse: Glimpse, contradicts: bool) -> None:
    assert (contradiction(place, seen, glimpse) is not None) is contradicts


def test_missing() -> None:
    assert is_missing(Seen(A, "7"), Glimpse("12", None))
    assert not is_missing(Seen(A, "7", gone=True), Glimpse("12", None))
    assert not is_missing(Seen(A, "7"), Glimpse("12", "7"))
    assert not is_missing(None, Glimpse("12", None))
