"""kproxy as a process on a node of the lab: how it is started, and what it tells over HTTP."""

import http.client
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.lab.addresses import CLUSTER_CIDR, CLUSTER_CIDR6
from hack.lab.errors import LabError
from hack.lab.namespaces import Namespace
from hack.lab.processes import STOP_TIMEOUT, Process
from hack.lab.waiting import until

HEALTHZ_PORT = 10256
METRICS_PORT = 10249
ANSWER_TIMEOUT = 30.0  # seconds: where other things keep the machine busy, a start takes some


def run_command(node: str, node_ip: str, source: Sequence[str], args: Sequence[str]) -> list[str]:
    """The command line of ``kproxy run``. `source` says where the objects come from, `args` are any further flags."""
    return [
        sys.executable, "-m", "kproxy", "run", *source,
        "--hostname-override", node,
        "--cluster-cidr", f"{CLUSTER_CIDR},{CLUSTER_CIDR6}",
        "--healthz-bind-address", f"{node_ip}:{HEALTHZ_PORT}",
        "--metrics-bind-address", f"{node_ip}:{METRICS_PORT}",
        *args,
    ]  # fmt: skip


def cleanup_command(args: Sequence[str] = ()) -> list[str]:
    """The command line of ``kproxy cleanup``."""
    return [sys.executable, "-m", "kproxy", "cleanup", *args]


def select(samples: Mapping[str, float], name: str, **labels: str) -> dict[str, float]:
    """The samples of the metric `name` that bear these labels, whatever others they bear."""
    wanted = [re.compile(rf'[{{,]{label}="{re.escape(value)}"[,}}]') for label, value in labels.items()]
    return {
        sample: value
        for sample, value in samples.items()
        if sample.partition("{")[0] == name and all(one.search(sample) for one in wanted)
    }


def source_flags(manifests: Path | None, kubeconfig: Path | None, master: str | None) -> list[str]:
    """The flags for whichever sources are given."""
    flags = {"--manifests": manifests, "--kubeconfig": kubeconfig, "--master": master}
    return [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]


class Kproxy:
    """A running kproxy. `process` has its log, its exit code and the ways to end it."""

    def __init__(self, process: Process, namespace: Namespace, node_ip: str) -> None:
        self.process = process
        self._namespace = namespace
        self._node_ip = node_ip

    def get(self, path: str, port: int = HEALTHZ_PORT) -> tuple[int, str]:
        """HTTP GET from the node itself: status and body. Raises OSError where nothing listens.

        The port is open before anybody serves there; who asks early waits for the answer.
        """
        connection = http.client.HTTPConnection(self._node_ip, port, timeout=ANSWER_TIMEOUT)
        try:
            with self._namespace.entered():
                connection.connect()
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """All samples by the text that stands before the value: ``name`` or ``name{label="value",…}``."""
        status, text = self.get("/metrics", METRICS_PORT)
        if status != http.client.OK:
            raise LabError(f"/metrics: HTTP status {status}")
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until it has written its rules, for both address families, and is healthy.

        Raises LabError with its log if it ends or is late. It takes a second; on a machine that is busy with other
        things, many.
        """
        try:
            until(self._is_ready, timeout, "kproxy to be ready and healthy")
        except LabError as error:
            raise LabError(f"{error}\n--- kproxy's log\n{self.process.log()}") from None

    def _is_ready(self) -> bool:
        if self.process.exit_code is not None:
            raise LabError(f"kproxy ended with exit code {self.process.exit_code}")
        try:
            return all(self.get(path)[0] == http.client.OK for path in ("/readyz", "/healthz"))
        except OSError:
            return False

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM; the rules stay in the kernel. Returns the exit code."""
        return self.process.stop(timeout)

    def log(self) -> str:
        """What it has printed so far."""
        return self.process.log()
