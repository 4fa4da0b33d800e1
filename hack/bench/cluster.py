"""A node of the lab under kproxy, beside a cluster of made-up services at the test API server.

Among the made-up services, which lead nowhere, there is one probe: a service whose endpoint is moved from one real pod
to another and back, while a third pod asks it. What is measured is what a user would see: an answer from the new pod.
"""

import compileall
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hack.bench.options import Size
from hack.lab import Kproxy, Lab
from hack.lab.processes import REPOSITORY
from tests.kit.apiserver.objects import endpoint, make_node, make_service, make_slice, service_port, slice_port
from tests.kit.apiserver.process import ApiServerProcess

PROBE_IP = "10.111.255.254"  # after all made-up services
PROBE_PORT = 80
POD_PORT = 8080
_ASK_SECONDS = 0.01
"""An asker that comes before the rules waits for so long, and that goes into what a start is said to take."""
_CPUCLOCK_SCHED = 2
_TICKS = os.sysconf("SC_CLK_TCK")


class Bench:
    """A lab, an API server and a kproxy, and what is measured with them."""

    def __init__(self, size: Size, lab: Lab, server: ApiServerProcess) -> None:
        self.size = size
        self.lab = lab
        self.server = server
        self.kproxy: Kproxy
        self.asker = lab.add_pod("asker")
        for name in ("left", "right"):
            lab.add_pod(name).serve(POD_PORT)
        self._turns = itertools.cycle(("left", "right"))
        self._put_probe()

    def _put_probe(self) -> None:
        ports = [service_port(PROBE_PORT, name="http", target_port=POD_PORT)]
        service = make_service("probe", "bench", cluster_ip=PROBE_IP, ports=ports)
        node = make_node("node-a", addresses=["10.0.0.1", "fd00:a::1"])
        self.server.control.put(service, node, self.probe_slice())

    def probe_slice(self) -> dict[str, Any]:
        """Return the probe's slice with the other pod than last time."""
        return self._slice_of(next(self._turns))

    def _slice_of(self, pod: str) -> dict[str, Any]:
        ends = [endpoint(self.lab.pod(pod).ip, node="node-a")]
        return make_slice("probe", "bench", endpoints=ends, ports=[slice_port(POD_PORT, name="http")])

    def cold_start(self, args: list[str]) -> float:
        """Start kproxy; return the seconds from exec to the first answer through the probe's address."""
        began = time.perf_counter()
        self.start(args)
        self._wait_for(None)
        return time.perf_counter() - began

    def start(self, args: list[str]) -> None:
        """Start kproxy, and wait for nothing."""
        self.kproxy = self.lab.node.start_kproxy(kubeconfig=self.server.kubeconfig, args=args)

    def end(self) -> None:
        """Stop kproxy, and remove its rules: the next one finds an empty field."""
        self.kproxy.stop()
        self.clean_up()

    def clean_up(self) -> None:
        """Remove the rules of a kproxy that has stopped."""
        self.lab.node.clean_up()

    def move(self) -> float:
        """Move the probe's endpoint; return the seconds from the API server's answer to the first from the new pod."""
        pod = next(self._turns)
        self.server.control.put(self._slice_of(pod))
        began = time.perf_counter()
        self._wait_for(pod)
        return time.perf_counter() - began

    def _wait_for(self, pod: str | None) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            server = self.asker.ask(PROBE_IP, PROBE_PORT, timeout=_ASK_SECONDS).server
            if server and pod in (None, server):
                return
            if not server:
                time.sleep(0.001)  # before the first sync, or between two rules: don't spin
        raise TimeoutError(f"the probe never answered from {pod or 'any pod'}\n{self.kproxy.log()}")

    @contextlib.contextmanager
    def churn(self, per_second: float) -> Iterator[None]:
        """Change that many slices of other services a second, spread over all of them, meanwhile."""
        with Churn(self.server, self.size, per_second):
            yield

    def ask(self) -> None:
        """Make one connection to the probe."""
        self._wait_for(None)

    def cpu_seconds(self, *, children: bool = False) -> float:
        """Processor time that kproxy has used so far, or with that of programs that it has run and that have ended."""
        pid = self.kproxy.process.pid
        own = time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)  # as clock_getcpuclockid(3) makes it; exact
        if not children:
            return own
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return own + sum(map(int, fields[13:15])) / _TICKS

    def rss_mib(self, which: str = "VmRSS") -> float:
        """Memory that kproxy has resident, or had at most (VmHWM)."""
        status = Path(f"/proc/{self.kproxy.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which)) / 1024


def compile_kproxy() -> None:
    """Have kproxy's bytecode in place, as in the image: to compile it takes as long as all else at a start."""
    compileall.compile_dir(REPOSITORY / "kproxy", quiet=1)


@contextlib.contextmanager
def bench(size: Size) -> Iterator[Bench]:
    """Build all of it but kproxy, which `Bench.cold_start` starts."""
    with Lab() as lab:
        arguments = ["--cluster", f"{size.services}x{size.endpoints}"]
        with ApiServerProcess(netns=lab.node.namespace.name, arguments=arguments) as server:
            yield Bench(size, lab, server)


class Churn:
    """A thread that moves one endpoint of one made-up service after another."""

    def __init__(self, server: ApiServerProcess, size: Size, per_second: float) -> None:
        self._server = server
        self._size = size
        self._pause = 1 / per_second
        self.done = 0

    def changes(self) -> Iterator[dict[str, Any]]:
        """Yield slices, each one different from what the server has."""
        for number in itertools.count():
            service = number * 7919 % self._size.services
            yield self.slice_of(service, number)

    def slice_of(self, service: int, number: int) -> dict[str, Any]:
        """Return a made-up service's slice with endpoints that depend on ``number``."""
        name = f"svc-{service:05}"
        ends = [
            endpoint(f"10.200.{(number + index) // 250 % 250}.{(number + index) % 250 + 1}", node="node-7")
            for index in range(self._size.endpoints)
        ]
        return make_slice(name, "bench", endpoints=ends, ports=[slice_port(8080, name="http")])

    def __enter__(self) -> "Churn":
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        control = self._server.connect()
        for change in self.changes():
            if self._stop.wait(self._pause):
                break
            control.put(change)
            self.done += 1
        control.close()
