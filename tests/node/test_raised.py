"""What kernel settings were before kproxy is remembered over restarts, till the next boot; and what becomes of them."""

from pathlib import Path

import pytest

from kproxy.daemon.kernelsettings import Way, way_back
from kproxy.node.raised import Found, Notes

NAME = "net.ipv4.conf.all.route_localnet"


def root(tmp_path: Path, boot: str = "one") -> Path:
    file = tmp_path / "root/proc/sys/kernel/random/boot_id"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{boot}\n")
    return tmp_path / "root"


def test_notes_outlive_a_restart_and_go_when_forgotten(tmp_path: Path) -> None:
    run = tmp_path / "run"
    Notes(None, root(tmp_path), run).note(NAME, Found(0))
    again = Notes(None, root(tmp_path), run)
    assert again.found(NAME) == Found(0)
    assert again.found("net.other") is None
    again.forget(NAME)
    assert Notes(None, root(tmp_path), run).found(NAME) is None
    assert list(run.iterdir()) == []


def test_notes_do_not_outlive_a_boot(tmp_path: Path) -> None:
    run = tmp_path / "run"
    Notes(None, root(tmp_path), run).note(NAME, Found(1, guarded=True))
    assert Notes(None, root(tmp_path, "two"), run).found(NAME) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"boot": 1}',
        b'{"boot":"one","found":{"x":1}}',
        b'{"boot":"\xff","found":{}}',
        b'{"more":' + b"[" * 100_000,
    ],
    ids=["empty", "a list", "a number for a boot", "a number for a note", "half a character", "nested too deeply"],
)
def test_nonsense_counts_as_nothing_noted(tmp_path: Path, content: bytes) -> None:
    run = tmp_path / "run"
    Notes(None, root(tmp_path), run).note(NAME, Found(0))
    (file,) = run.iterdir()
    file.write_bytes(content)
    assert Notes(None, root(tmp_path), run).found(NAME) is None


def test_the_state_directory_serves_where_run_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked, state = tmp_path / "file/run", tmp_path / "state"
    Notes(state, root(tmp_path), blocked).note(NAME, Found(0))
    assert Notes(state, root(tmp_path), blocked).found(NAME) == Found(0)


def test_a_cleanup_with_another_run_directory_finds_the_notes_by_the_state_directory(tmp_path: Path) -> None:
    """As in a debugging container, which has a /run of its own and the node's below /host."""
    host, own = tmp_path / "host", tmp_path / "own"
    Notes(None, root(tmp_path), host).note(NAME, Found(0))
    notes = Notes(host, root(tmp_path), own)
    assert notes.found(NAME) == Found(0)
    notes.forget(NAME)
    assert list(host.iterdir()) == []


def test_without_any_place_notes_last_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notes = Notes("", root(tmp_path), tmp_path / "file/run")
    with pytest.raises(OSError, match="can be written"):
        notes.note(NAME, Found(0))
    assert notes.found(NAME) == Found(0)


@pytest.mark.parametrize(
    ("current", "found", "others", "way"),
    [
        (1, Found(0), [], Way.PUT_BACK),
        (1, Found(0), ["the kubelet"], Way.KEEP_GUARDED),
        (1, Found(1), [], Way.AS_FOUND),
        (1, Found(1), ["kube-proxy"], Way.KEEP_GUARDED),
        (1, Found(1, guarded=True), [], Way.KEEP_GUARDED),
        (1, None, [], Way.KEEP_GUARDED),
        (0, None, [], Way.AS_FOUND),
        (0, Found(0), [], Way.AS_FOUND),
        (None, Found(0), [], Way.AS_FOUND),
    ],
)
def test_what_becomes_of_a_setting(current: int | None, found: Found | None, others: list[str], way: Way) -> None:
    assert way_back(current, found, others) is way
