"""Cutting the stream of a watch into its lines."""

from collections.abc import Iterable, Iterator

MAX_LINE = 1 << 26
"""Bytes of one event. etcd stores no object of more than a few megabytes: what is longer has lost its line ends."""


def split_lines(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield, for each chunk, the lines that it completes: an empty list shows that there was life, but no event yet.

    Each byte is copied twice at most. Raises ValueError for a line beyond all measure, and for one that has no end.
    """
    pending: list[bytes] = []
    size = 0
    for chunk in chunks:
        lines = chunk.split(b"\n")
        if len(lines) > 1 and pending:
            lines[0] = b"".join((*pending, lines[0]))
            pending = []
            size = 0
        rest = lines.pop()
        if rest:
            pending.append(rest)
            size += len(rest)
            if size > MAX_LINE:
                raise ValueError(f"a watch event of more than {MAX_LINE >> 20} MB")
        yield [line for line in lines if line]
    if pending:
        raise ValueError("the watch ended in the middle of an event")
