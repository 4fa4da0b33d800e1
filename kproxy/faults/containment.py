"""Keeps the failure of one part from ending the others: it is named, counted, and left behind.

For what nobody foresaw, at the edge of every part that runs by itself: a thread, a round of the loop, a callback, a
page. What can be foreseen (a kernel that refuses, a server that is out of reach) has an error of its own, and is dealt
with where it happens.

The counts are the process's, as its log is.
"""

import errno
import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType

from kproxy import logs

log = logs.get("faults")

_REMEDIES = {
    errno.EMFILE: "the limit on open files of the process is too low; raise it (systemd: LimitNOFILE=, ulimit -n)",
    errno.ENFILE: "the machine's limit on open files is reached; raise it (sysctl fs.file-max)",
    errno.ENOSPC: "the file system is full; make room",
    errno.ENOMEM: "there is no memory left; raise the container's or the machine's",
    errno.ENOBUFS: "the kernel has no memory left for sockets; raise the machine's",
    errno.EAGAIN: "the limit on processes is reached; raise it (systemd: TasksMax=, ulimit -u)",
}
_counts: Counter[str] = Counter()
_lock = threading.Lock()


def survived(part: str, error: BaseException, what: str = "a part of kproxy failed; all others go on") -> None:
    """Note that ``part`` has failed, and that everything else goes on; ``what`` is how the log puts it.

    What the system says takes one line, with the remedy where there is one; anything else is a mistake in kproxy, whose
    traceback somebody will want to see.
    """
    with _lock:
        _counts[part] += 1
    if isinstance(error, OSError):
        log.error(what, part=part, problem=explain(error))
    else:
        log.exception(what, error, part=part)  # noqa: LOG004 - kproxy's own, which is given the error


class _Containment:
    def __init__(self, part: str) -> None:
        self._part = part

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):  # whoever ends the process means it
            return False
        survived(self._part, error)
        return True


def contained(part: str) -> _Containment:
    """Survive whatever goes wrong in a ``with`` block."""
    return _Containment(part)


def counts() -> Mapping[str, int]:
    """Return how often each part has failed since the process began."""
    with _lock:
        return dict(_counts)


def explain(error: OSError) -> str:
    """Return what the system said, about what, and the remedy if there is one."""
    about = f"{error.filename}: " if error.filename else ""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{about}{error.strerror or error}" + (f"; {remedy}" if remedy else "")


def watch_threads() -> None:
    """Have threads that end by an error do so in one line, and be counted."""

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            survived(f"thread {args.thread.name if args.thread else '?'}", args.exc_value)

    threading.excepthook = hook
