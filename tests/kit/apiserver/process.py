"""The test API server as a process of its own, on request inside a network namespace.

For the lab, where the server lives in another namespace than the test, and for benchmarks, where it must not share an
interpreter with what is measured. It ends with the process that started it, however that ends.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit.apiserver.control import ControlClient
from tests.kit.paths import ROOT

_ROOT = ROOT
_READY = "ready "
_STOP_TIMEOUT = 10.0


def _environment() -> dict[str, str]:
    """Spare the server to read whom this machine trusts, a fifth of its start: it is no client of anybody."""
    return {**os.environ, "SSL_CERT_FILE": os.devnull}


class ApiServerProcess:
    """A server process; as a context manager it is started and ended with the block.

    ``control`` steers it, ``kubeconfig`` is the file for its clients, ``url`` its address. ``arguments`` go to
    ``python -m tests.kit.apiserver`` as they are.
    """

    def __init__(
        self, *, address: str = "127.0.0.1", port: int = 0, netns: str | None = None, arguments: Sequence[str] = ()
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kproxy-apiserver-")
        folder = Path(self._folder.name)
        self.kubeconfig = folder / "kubeconfig"
        self.service_account = folder / "serviceaccount"
        self._control_path = folder / "control"
        self._command = [
            *(("ip", "netns", "exec", netns) if netns is not None else ()),
            *(sys.executable, "-m", "tests.kit.apiserver"),
            *("--address", address, "--port", str(port)),
            *("--write-kubeconfig", str(self.kubeconfig), "--write-service-account", str(self.service_account)),
            *("--control", str(self._control_path), "--end-with-stdin"),
            *arguments,
        ]
        self.control: ControlClient
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it serves.

        Raises:
            RuntimeError: it ended instead; its own words are on stderr.
        """
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, cwd=_ROOT, env=_environment(), stdin=pipe, stdout=pipe, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(_READY):
            self._end()
            self._folder.cleanup()
            raise RuntimeError(f"the test API server did not start: exit code {self._process.returncode}")
        self.url = line.removeprefix(_READY).strip()
        self.control = ControlClient(self._control_path)

    def stop(self) -> None:
        """End the process and remove its files."""
        self.control.close()
        self._end()
        self._folder.cleanup()

    def connect(self) -> ControlClient:
        """Return one more control connection, for another thread."""
        return ControlClient(self._control_path)

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
