"""What a change of endpoints and a new Ingress take until requests see them, and what kproxy's configuration costs.

    python -m hack.bench.ingress                          all of it, at 1, 10 and 1,000 hosts
    python -m hack.bench.ingress --sizes 1000 --modes changes

Needs haproxy, nginx and wrk (apt-get install haproxy nginx-light wrk), and root for a network namespace. Pods are
nginx, too, so that they are not what is measured. Times go from the moment that a watch would tell of the object.

* **changes**: an endpoint takes another's place, also right after a reload; a new Ingress comes. In the background wrk
  asks a host that stays, and every answer but 200 and every broken connection counts as failed.
* **throughput**: wrk against kproxy's configuration, against one written by hand for HAProxy and one for nginx. All
  three go by host and path, know the same hosts, and tell pods the same of the client (X-Forwarded-For, -Proto, -Host
  and Forwarded). They take turns; figures are medians of all rounds, and so are the ratios of kproxy's figure to the
  others' of the same round. wrk, pods and proxy share the machine. CPU is the proxy's own, so that it says more.
* **logged**: the same with an access log. kproxy's goes through its pipe to its reader; that of HAProxy by hand to a
  pipe that `cat` reads; nginx's to a file.
"""

import http.client
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from hack.bench import options as common
from hack.bench.byhand import PODS, by_hand, nginx, nginx_by_hand, pods_configuration
from hack.bench.report import Figure, Report, ms, percentile, report_of, us
from kproxy.api.manifests import combine, read_manifest
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.daemon.accesslog import access_log
from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.plan.planner import HttpPlanner
from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.haproxy.kit import ingress, slices
from tests.kit.netns import need, network_namespace

OFFLINE = PlanSettings(in_cluster=False, without_class=True)
SECONDS = 3
DEFAULTS = common.Defaults(("1", "10", "1000"), ("changes", "throughput", "logged"), 7, ("10",), 1)
LOAD_HOST = "h0.example.com"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    parser = common.parser("ingress", __doc__, DEFAULTS)
    parser.add_argument("--tries", type=int, help="changes of each kind (default: 20)")
    options = common.parse(parser, arguments)
    report = report_of(options)
    tries = options.tries or (3 if options.quick else 20)
    need("haproxy", "nginx", "wrk")
    with tempfile.TemporaryDirectory() as name, network_namespace(Path(name)):
        folder = Path(name)
        for command in (["link", "set", "lo", "up"], ["address", "add", "10.1.0.254/16", "dev", "lo"]):
            subprocess.run(["ip", *command], check=True)
        with nginx(folder / "pods", pods_configuration()):
            if "changes" in options.modes:
                heads = ("change", "median", "95 of 100", "reloads", "requests meanwhile", "failed")
                report.table("A change, until requests see it", "hosts", *heads)
                for hosts, _ in options.sizes:
                    measure_changes(folder / f"changes-{hosts}", hosts, tries, report)
            for mode, title in (("throughput", "Requests"), ("logged", "Requests, with an access log")):
                if mode in options.modes:
                    columns = ("configuration", "requests/s", "p99", "CPU a request", "kproxy's rate by it", "its CPU")
                    report.table(title, "hosts", *columns)
                    for hosts, _ in options.sizes:
                        place = folder / f"{mode}-{hosts}"
                        measure_throughput(place, hosts, options.repeats, report, logged=mode == "logged")


# --- changes ---------------------------------------------------------------------------------------------------------


class World:
    """Objects, as a watch tells of them, and the engine behind them."""

    def __init__(self, folder: Path, hosts: int, *, logged: bool = False) -> None:
        self.planner = HttpPlanner(OFFLINE)
        self.state = folder / "state"
        self.engine = Engine(EngineSettings(state_dir=str(self.state), ipv6=False, access_log=logged))
        for number in range(hosts):
            self.put(slices(f"s{number}", PODS[:2]), ingress(f"h{number}.example.com", f"s{number}"))
        self.take_effect()

    def put(self, *documents: str) -> None:
        """Tell of objects."""
        manifest = read_manifest("\n---\n".join(documents).encode(), "bench", IngressKind)
        for kind, objects in combine({"bench": manifest}, None, IngressKind).objects.items():
            for obj in objects.values():
                self.planner.update(kind, obj)

    def take_effect(self) -> str | None:
        """Plan and apply; return why HAProxy was reloaded."""
        return self.engine.apply(self.planner.refresh().plan).reloaded


class Change(NamedTuple):
    """Objects, and who answers at which host once they are in force."""

    objects: tuple[str, ...]
    host: str
    pod: str | None = None


def measure_changes(folder: Path, hosts: int, tries: int, report: Report) -> None:
    world = World(folder, hosts)
    try:
        last = f"h{hosts - 1}.example.com"

        def endpoint(number: int) -> Change:
            pod = PODS[2 + number % 2]
            return Change((slices(f"s{hosts - 1}", [pod]),), last, pod)

        def after_reload(number: int) -> Change:
            settings = msgspec.structs.replace(world.engine.settings, server_timeout=50_000 + number)
            world.engine.settings = settings  # what only a reload changes
            world.take_effect()
            return endpoint(number)

        def fresh(number: int) -> Change:
            host = f"new{number}.example.com"
            return Change((ingress(host, "s0"),), host)

        kinds = {"endpoint": endpoint, "endpoint, right after a reload": after_reload, "Ingress": fresh}
        for name, kind in kinds.items():
            took, reloads = [], 0
            with load(f"http://127.0.0.1:80/ {LOAD_HOST}") as heard:
                for number in range(tries):
                    change = kind(number)
                    began = time.perf_counter()
                    world.put(*change.objects)
                    reloads += world.take_effect() is not None
                    await_answer(change.host, change.pod)
                    took.append(time.perf_counter() - began)
                    world.engine.tidy()
            tell(report, hosts, name, took, reloads, heard)
    finally:
        world.engine.close(stop=True, grace_s=0.1)


def tell(report: Report, hosts: int, change: str, took: list[float], reloads: int, heard: dict[str, int]) -> None:
    times = ms(percentile(took, 50), 1), ms(percentile(took, 95), 1)
    report.row(hosts, change, *times, reloads, heard["requests"], heard["failed"])


def await_answer(host: str, pod: str | None = None) -> None:
    """Ask until a host is answered, by a pod if one is named."""
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
    while True:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status == 200 and (pod is None or pod in body):
            break
    connection.close()


@contextmanager
def load(target: str) -> Iterator[dict[str, int]]:
    """Keep asking in the background; the report is filled in at the end."""
    url, host = target.split()
    report: dict[str, int] = {}
    command = ["wrk", "-t1", "-c4", "-d600s", "-H", f"Host: {host}", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    time.sleep(0.3)
    try:
        yield report
    finally:
        process.send_signal(2)
        text, _ = process.communicate(timeout=20)
        report |= read_wrk(text)


def read_wrk(text: str) -> dict[str, int]:
    """Return requests and failures of a report."""
    requests = re.search(r"(\d+) requests in", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed = int(bad[1]) if bad else 0
    failed += sum(map(int, broken.groups())) if broken else 0
    return {"requests": int(requests[1]) if requests else 0, "failed": failed}


# --- throughput ------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One run of wrk."""

    requests: float
    p99_ms: float
    cpu_us: float


def measure_throughput(folder: Path, hosts: int, rounds: int, report: Report, *, logged: bool) -> None:
    world = World(folder, hosts, logged=logged)
    (folder / "requests.lua").write_text(
        "local i = 0\nrequest = function()\n  i = i + 1\n"
        f'  return wrk.format("GET", "/some/path?a=b", {{Host = "h" .. (i * 7 % {hosts}) .. ".example.com"}})\nend\n'
    )
    try:
        worker = int(world.engine.ask("show info").split("Pid: ")[1].split()[0])
        with (
            Path(os.devnull).open("wb") as away,
            access_log(world.state / "log.pipe", away) if logged else nullcontext(),
            by_hand(folder / "hand", hosts, logged=logged) as hand,
            nginx(folder / "nginx", nginx_by_hand(hosts, logged=logged)) as front,
        ):
            places = {"kproxy": (80, [worker]), "HAProxy by hand": (8001, [hand]), "nginx": (8002, children(front))}
            found: dict[str, list[Run]] = {name: [] for name in places}
            for _ in range(rounds):
                for name, (port, processes) in places.items():
                    found[name].append(run_wrk(port, processes, folder / "requests.lua"))
    finally:
        world.engine.close(stop=True, grace_s=0.1)
    for name, runs in found.items():
        pairs = list(zip(found["kproxy"], runs, strict=True))
        report.row(
            hosts,
            name,
            Figure(median(run.requests for run in runs), "/s"),
            Figure(median(run.p99_ms for run in runs), "ms", 2),
            us(median(run.cpu_us for run in runs) / 1e6),
            Figure(median(own.requests / other.requests for own, other in pairs), "", 2),
            Figure(median(own.cpu_us / other.cpu_us for own, other in pairs), "", 2),
        )


def run_wrk(port: int, processes: Sequence[int], script: Path) -> Run:
    before = sum(map(cpu_seconds, processes))
    command = ["wrk", "-t1", "-c32", f"-d{SECONDS}s", "--latency", "-s", str(script), f"http://127.0.0.1:{port}/"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu = sum(map(cpu_seconds, processes)) - before
    report = read_wrk(text)
    if report["failed"]:
        raise SystemExit(f"port {port}: {report['failed']} requests failed:\n{text}")
    rate, slowest = re.search(r"Requests/sec: +([\d.]+)", text), re.search(r"99% +([\d.]+)(us|ms|s)", text)
    assert rate
    assert slowest
    factor = {"us": 1e-3, "ms": 1.0, "s": 1e3}[slowest[2]]
    return Run(float(rate[1]), float(slowest[1]) * factor, cpu * 1e6 / report["requests"])


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


if __name__ == "__main__":
    main()
