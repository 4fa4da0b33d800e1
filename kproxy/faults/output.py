"""Results go to standard output; where they cannot, whoever asked is told so in one line."""

import contextlib
import os
import sys


class OutputError(Exception):
    """A result could not be written. Its text is one line."""

    def __init__(self, text: str, *, unwanted: bool) -> None:
        super().__init__(text)
        self.unwanted = unwanted
        """Whether somebody closed our output early, as ``head`` does, which is no mistake."""


def put_out(text: str) -> None:
    """Write a result, whole. Raises OutputError."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _forget_the_rest()
        reason = f"the result can't be written to standard output: {error.strerror}"
        raise OutputError(reason, unwanted=isinstance(error, BrokenPipeError)) from error


def _forget_the_rest() -> None:
    """Let what is in the buffer go nowhere: Python writes it at its end, and would complain in its own words."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
