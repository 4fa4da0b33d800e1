"""How long it takes to load a cluster from an API server, how much memory it takes, and how many changes a second fit.

    python -m hack.bench.load                       the sizes of the docs, and a million changes
    python -m hack.bench.load --sizes 1000x5 --changes 100000

Every measurement is made in a process of its own that does nothing else; the test API server is another. It is Python
too and has to render every object, so the time to load is mostly its own: the CPU seconds are kproxy's. The yardstick
is decoding the same bytes with msgspec and nothing else. Each figure is the least of the repeats. The changes come from
a server that only repeats prepared text as fast as it is read, once.
"""

import argparse
import gc
import json
import multiprocessing
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from hack.bench import options as common
from hack.bench.replay import replay
from hack.bench.report import Figure, Report, mib, ratio, report_of, seconds, us
from kproxy.api.decode import decode_event, decode_page
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Problem
from kproxy.api.watch.lines import split_lines
from kproxy.api.watch.source import ApiSource
from kproxy.api.wire import Bookmark

DEFAULTS = common.Defaults(("1000x5", "10000x5", "5000x50"), ("streamed", "in pages"), 3, ("100x5",), 1)
CHANGES, QUICK_CHANGES, LEAST_CHANGES = 1_000_000, 2_000, 1_000
WARM_UP = 10_000
"""Changes before memory is read and time is taken; a tenth of all where there are not that many."""
SILENCE_SECONDS = 30.0
"""After so long without a change, nothing more will come."""
KINDS = (Kind.SERVICE, Kind.ENDPOINT_SLICE)
ROOT = Path(__file__).parents[2]
MB = 1 << 20


class HoldingSink:
    """Keeps the objects, as any user of them must, and nothing else."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {}
        self.synced: dict[ObjectKind, threading.Event] = {kind: threading.Event() for kind in Kind}
        self.updates = 0

    def replace(self, kind: ObjectKind, objects: Mapping[ObjectKey, ApiObject]) -> None:
        """Hold these, and tell who waits for the kind."""
        self.objects[kind] = dict(objects)
        self.synced[kind].set()

    def update(self, kind: ObjectKind, obj: ApiObject) -> None:
        """Hold this one, and count it."""
        self.objects[kind][obj.metadata.key] = obj
        self.updates += 1

    def delete(self, kind: ObjectKind, key: ObjectKey) -> None:
        """Let go of this one."""
        self.objects[kind].pop(key, None)

    def report(self, problems: Sequence[Problem]) -> None:
        """Give up: the objects here are sound."""
        raise AssertionError(problems)


def resident_mb() -> float:
    """What the process occupies now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


def peak_mb() -> float:
    """The most it ever occupied."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# Measurements; each runs in a process of its own and returns what it saw


def load(kubeconfig: str) -> dict[str, float]:
    """Load everything, as kproxy does when it starts."""
    client = ApiClient(Credentials(AccessOptions(kubeconfig=kubeconfig)))
    sink = HoldingSink()
    source = ApiSource(client, sink, "node-0", KINDS)
    before = resident_mb()
    began, cpu = time.perf_counter(), time.process_time()
    source.start()
    for kind in KINDS:
        sink.synced[kind].wait()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    received = sum(status.bytes_received for status in source.statuses)
    held = resident_mb()
    source.stop()
    slices = [obj for obj in sink.objects[Kind.ENDPOINT_SLICE].values() if isinstance(obj, EndpointSlice)]
    endpoints = sum(len(obj.endpoints or ()) for obj in slices)
    return {
        "services": len(sink.objects[Kind.SERVICE]),
        "endpoints": endpoints,
        "MB received": received / MB,
        "load s": seconds,
        "CPU s": cpu,
        "MB before": before,
        "MB held": held,
        "MB peak": peak_mb(),
        "bytes/endpoint": (held - before) * MB / max(1, endpoints),
    }


def yardstick(kubeconfig: str) -> dict[str, float]:
    """Decode what a list and what a streaming list bring, without network and sink."""
    client = ApiClient(Credentials(AccessOptions(kubeconfig=kubeconfig)))
    streamed = {kind: _stream(client, kind) for kind in KINDS}
    listed = {}
    for kind in KINDS:
        with closing(client.get(kind.path)) as answer:
            listed[kind] = answer.read()
    client.close()
    return {
        "msgspec list s": _timed(lambda: [decode_page(kind, listed[kind]) for kind in KINDS]),
        "msgspec events s": _timed(lambda: [[decode_event(kind, line) for line in streamed[kind]] for kind in KINDS]),
    }


def _stream(client: ApiClient, kind: ObjectKind) -> list[bytes]:
    query = {"watch": "true", "allowWatchBookmarks": "true", "sendInitialEvents": "true"}
    query["resourceVersionMatch"] = "NotOlderThan"
    received = []
    with closing(client.get(kind.path, query)) as answer:
        for lines in split_lines(answer.chunks()):
            received += lines
            if lines and isinstance(decode_event(kind, lines[-1]).event, Bookmark):
                break
    return received


def _timed(function: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - began
    del result
    return seconds


def changes(url: str, count: str) -> dict[str, float]:
    """Follow ``count`` changes of 1,000 slices, as fast as they come.

    Raises:
        TimeoutError: they stopped coming.
    """
    sink = HoldingSink()
    source = ApiSource(ApiClient(Credentials(AccessOptions(master=url))), sink, "node-0", [Kind.ENDPOINT_SLICE])
    source.start()
    sink.synced[Kind.ENDPOINT_SLICE].wait(SILENCE_SECONDS)
    _await_updates(sink, min(WARM_UP, int(count) // 10))
    memory, began, cpu, first = resident_mb(), time.perf_counter(), time.process_time(), sink.updates
    _await_updates(sink, int(count))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    done = max(1, sink.updates - first)
    result = {"changes": done, "changes/s": done / wall, "CPU s/change": cpu / done}
    result |= {"MB at the start": memory, "MB at the end": resident_mb()}
    source.stop()
    return result


def _await_updates(sink: HoldingSink, number: int) -> None:
    seen, since = -1, time.monotonic()
    while sink.updates < number:
        if sink.updates != seen:
            seen, since = sink.updates, time.monotonic()
        elif time.monotonic() - since > SILENCE_SECONDS:
            raise TimeoutError(f"{seen:,} of {number:,} changes came, and then none for {SILENCE_SECONDS:g} s")
        time.sleep(0.01)


# Everything together


def measure(name: str, *arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, "-m", "hack.bench.load", "--measure", name, *arguments]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def measure_size(size: common.Size, modes: Sequence[str], repeats: int, report: Report) -> None:
    from tests.kit.apiserver.process import ApiServerProcess  # not needed in the processes that are measured

    with ApiServerProcess(arguments=["--cluster", size.plain]) as server:
        alone = least([measure("yardstick", str(server.kubeconfig)) for _ in range(repeats)])
        for mode in modes:
            server.control.set(streaming_lists="offered" if mode == "streamed" else "forbidden")
            found = least([measure("load", str(server.kubeconfig)) for _ in range(repeats)])
            decoding = alone["msgspec events s" if mode == "streamed" else "msgspec list s"]
            times = seconds(found["load s"], 2), seconds(found["CPU s"], 2), seconds(decoding, 2)
            held = mib(found["MB peak"]), Figure(found["bytes/endpoint"], "B")
            report.row(str(size), mode, *times, ratio(found["CPU s"], decoding), *held)


def least(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the least of each figure: whatever else the machine does can only add to it."""
    return {name: min(run[name] for run in runs) for name in runs[0]}


def measure_changes(count: int, report: Report) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = multiprocessing.get_context("fork").Process(target=replay, args=(listener, count), daemon=True)
        sender.start()
        try:
            found = measure("changes", f"http://127.0.0.1:{listener.getsockname()[1]}", str(count))
        finally:
            sender.terminate()
            sender.join()
    memory = mib(found["MB at the start"], 1), mib(found["MB at the end"], 1)
    report.row(int(found["changes"]), Figure(found["changes/s"], "/s"), us(found["CPU s/change"]), *memory)


MEASUREMENTS: Mapping[str, Callable[..., dict[str, float]]] = {
    "load": load,
    "yardstick": yardstick,
    "changes": changes,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    parser = common.parser("load", __doc__, DEFAULTS)
    parser.add_argument("--changes", type=int, help=f"0: measure no changes (default: {CHANGES})")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = common.parse(parser, arguments)
    if options.measure:
        name, *rest = options.measure
        print(json.dumps(MEASUREMENTS[name](*rest)))
        return
    count = (QUICK_CHANGES if options.quick else CHANGES) if options.changes is None else options.changes
    if 0 < count < LEAST_CHANGES:
        parser.error(f"--changes {count}: fewer than {LEAST_CHANGES:,} can't be measured; give 0 for none")
    report = report_of(options)
    columns = ("list", "wall clock", "CPU", "decoding alone", "ratio", "peak RSS", "an endpoint")
    report.table("Loading a cluster", "services x endpoints", *columns)
    for size in options.sizes:
        measure_size(size, options.modes, options.repeats, report)
    if count:
        report.table("Following changes", "changes", "rate", "CPU each", "RSS before", "RSS after")
        measure_changes(count, report)


if __name__ == "__main__":
    main()
