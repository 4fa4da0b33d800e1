"""libnftables, the library behind the nft program, run in this process: no fork, and errors as text.

Bound with ctypes. There is a Python module in the nftables project that does the same, but Debian's package of it is
for the system's Python only, PyPI has none but strangers' copies, and it is no more than what is below: eight functions
of a C interface that has not changed since nftables 0.9 (libnftables.h, soname 1).

A transaction is whatever one call of `run` is given: all of it is done, or nothing.
"""

import ctypes
from typing import Any

from kproxy.backends.nftables.kernel.errors import KernelRefusedError, NoNftablesError

SONAME = "libnftables.so.1"
_PACKAGE = "it comes with the packages libnftables1 (Debian, Ubuntu) and nftables (elsewhere)"


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(SONAME)
    except OSError as error:
        raise NoNftablesError(f"the library {SONAME} does not load ({error}); {_PACKAGE}") from None
    context, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, *arguments in (
        ("nft_ctx_new", context, ctypes.c_uint32),
        ("nft_ctx_free", None, context),
        ("nft_ctx_buffer_output", ctypes.c_int, context),
        ("nft_ctx_buffer_error", ctypes.c_int, context),
        ("nft_ctx_get_output_buffer", text, context),
        ("nft_ctx_get_error_buffer", text, context),
        ("nft_ctx_set_dry_run", None, context, ctypes.c_bool),
        ("nft_run_cmd_from_buffer", ctypes.c_int, context, text),
    ):
        function = getattr(library, str(name))
        function.restype, function.argtypes = result, arguments
    return library


class Libnftables:
    """A context of libnftables: one netlink socket, in the network namespace it was made in. Not thread-safe."""

    def __init__(self) -> None:
        """Raises NoNftablesError if the library is not there."""
        self._library: Any = _load()
        self._context: int | None = self._new_context()
        if not self._context:
            raise NoNftablesError("libnftables got no netlink socket; has the process too many open files?")

    def _new_context(self) -> int | None:
        context: int | None = self._library.nft_ctx_new(0)
        if context:
            self._library.nft_ctx_buffer_output(context)
            self._library.nft_ctx_buffer_error(context)
        return context

    def forget(self) -> None:
        """Let go of what it remembers of the rules that went through it, which is worth nothing after the next change.

        For a thousand services of five endpoints that is 5 MiB.
        """
        if context := self._new_context():  # where there is none to be had, the old one goes on
            self._library.nft_ctx_free(self._context)
            self._context = context

    def run(self, script: str) -> str:
        """Carry out a script as one transaction; return what it printed. Raises KernelRefusedError."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
        # Both must be fetched each time: that is what empties them.
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        errors: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if failed:
            raise KernelRefusedError(errors.decode(errors="replace"))
        return output.decode(errors="replace")

    def check(self, script: str) -> None:
        """Have the kernel check a script without carrying it out. Raises KernelRefusedError."""
        self._library.nft_ctx_set_dry_run(self._context, True)
        try:
            self.run(script)
        finally:
            self._library.nft_ctx_set_dry_run(self._context, False)

    def close(self) -> None:
        """Free it."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None
