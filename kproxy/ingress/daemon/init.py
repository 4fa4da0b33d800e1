"""Process 1 of a container: a parent for kproxy and HAProxy that outlives kproxy.

A container ends with its first process, and HAProxy with it. So where the program is process 1, it is not that process
which does the work, but a child of it: if the child is killed, as by the kernel for want of memory, another one takes
HAProxy over, which has been serving all the while. And what nobody else waits for when it ends is waited for here, as
process 1 has to. To be called before there are any threads.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LASTS_SECONDS = 60.0
"""A child that has lived for so long is not one that dies at every start."""
_LONGEST_PAUSE_SECONDS = 30.0


def surviving(work: Callable[[], int], *, first: bool | None = None) -> int:
    """Do the work, in a child where this is process 1 (or ``first``); return the exit code.

    A child that ends by itself ends it all; one that is ended by a signal nobody sent through here is replaced.
    """
    if not (os.getpid() == 1 if first is None else first):
        return work()
    pause = 0.0
    while True:
        began = time.monotonic()
        # Signals wait until somebody passes them on: unhandled, one would end the parent, or be lost for process 1.
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            os._exit(_do(work))
        status, told_to_stop = _attend(child)
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        number = os.WTERMSIG(status)
        if told_to_stop:
            return 128 + number
        if time.monotonic() - began > _LASTS_SECONDS:
            pause = 0.0
        print(f"kproxy: ended by {signal.Signals(number).name}; starting it again, HAProxy goes on", file=sys.stderr)
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, max(0.5, 2 * pause))


def _do(work: Callable[[], int]) -> int:
    try:
        return work()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _attend(child: int) -> tuple[int, bool]:
    """Pass signals on and wait for all that end, until the child does; return its status, and whether it was to end."""
    told = False

    def pass_on(number: int, _frame: object) -> None:
        nonlocal told
        told |= number != signal.SIGHUP
        os.kill(child, number)  # it has not been waited for, so it is there

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    try:
        while True:
            pid, status = os.wait()
            if pid == child:
                return status, told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
