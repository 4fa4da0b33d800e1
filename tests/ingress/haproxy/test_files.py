"""What is kept for kproxy's next start; what cannot be read of it counts as nothing kept."""

from pathlib import Path

import msgspec
import pytest

from kproxy.ingress.haproxy.control.files import Generations, Running
from kproxy.ingress.haproxy.text.model import NOTHING, Configuration

KEPT = Running(7, 1, Configuration(head=("global",), slots={}, maps={}, memory=NOTHING))
WHOLE = msgspec.msgpack.encode(KEPT)


def test_what_is_in_the_process_is_kept_until_it_changes(tmp_path: Path) -> None:
    files = Generations(tmp_path)
    files.remember(KEPT)
    assert Generations(tmp_path).remembered() == KEPT
    files.remember(None)
    assert Generations(tmp_path).remembered() is None


def test_what_cannot_be_kept_leaves_nothing_that_is_true_no_more(tmp_path: Path) -> None:
    files = Generations(tmp_path)
    files.remember(KEPT)
    (tmp_path / "state.new").mkdir()  # nothing can be written there
    files.remember(msgspec.structs.replace(KEPT, pid=8))
    assert Generations(tmp_path).remembered() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", WHOLE[:-3], WHOLE.replace(b"global", b"glob\xff\xff"), b"\x81\xa4more" + b"\x91" * 100_000],
    ids=["empty", "zeros", "cut off", "half a character", "nested too deeply"],
)
def test_nonsense_counts_as_nothing_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    assert Generations(tmp_path).remembered() is None
