"""How long it takes to load a cluster from an API server, how much memory it takes, and how many changes a second fit.

    python -m hack.bench.load                       the sizes of the docs, and a million changes
    python -m hack.bench.load --sizes 1000x5 --changes 100000

Every measurement is made in a process of its own that does nothing else; the test API server is another. It is Python
too and has to render every object, so the time to load is mostly its own: the CPU seconds are kproxy's. ``msgspec`` is
the time that decoding the same bytes takes by itself, the yardstick. The changes come from a server that only repeats
prepared text as fast as it is read.
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
from typing import Any, Literal

from kproxy.api.decode import decode_event, decode_page
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Problem
from kproxy.api.watch.lines import split_lines
from kproxy.api.watch.source import ApiSource
from kproxy.api.wire import Bookmark

SIZES = ("1000x5", "10000x5", "5000x50")
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
    """Follow ``count`` changes of 1,000 slices, as fast as they come."""
    sink = HoldingSink()
    source = ApiSource(ApiClient(Credentials(AccessOptions(master=url))), sink, "node-0", [Kind.ENDPOINT_SLICE])
    source.start()
    sink.synced[Kind.ENDPOINT_SLICE].wait()
    while sink.updates < 10_000:
        time.sleep(0.01)
    memory, began, cpu, first = resident_mb(), time.perf_counter(), time.process_time(), sink.updates
    while sink.updates < int(count):
        time.sleep(0.01)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    done = sink.updates - first
    result = {"changes": done, "changes/s": done / seconds, "CPU us/change": cpu / done * 1e6}
    result |= {"MB at the start": memory, "MB at the end": resident_mb(), "MB received": _received(source) / MB}
    source.stop()
    return result


def _received(source: ApiSource) -> int:
    return sum(status.bytes_received for status in source.statuses)


# The server for changes


def replay(listener: socket.socket, count: int) -> None:
    """Answer one watch: 1,000 slices, the bookmark, then ``count`` changes, each in a chunk of its own."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        version = 1_000
        events = [_event("ADDED", index, version) for index in range(1_000)]
        events.append(_chunk(json.dumps(_bookmark(version)).encode()))
        connection.sendall(b"".join(events))
        templates = [_template(index) for index in range(1_000)]
        for start in range(0, count, 100):
            batch = []
            for number in range(start, start + 100):
                version += 1
                batch.append(_chunk(templates[number * 7 % 1_000] % version))
            connection.sendall(b"".join(batch))
        time.sleep(60)


def _slice(index: int, version: str) -> dict[str, Any]:
    conditions = {"ready": True, "serving": True, "terminating": False}
    endpoints = [
        {"addresses": [f"10.{index // 250}.{index % 250}.{n}"], "conditions": conditions, "nodeName": f"node-{n}"}
        for n in range(5)
    ]
    labels = {"kubernetes.io/service-name": f"svc-{index}"}
    metadata = {"name": f"svc-{index}-1", "namespace": "bench", "resourceVersion": version, "labels": labels}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}


def _template(index: int) -> bytes:
    return json.dumps({"type": "MODIFIED", "object": _slice(index, "%d")}).encode()


def _event(kind: str, index: int, version: int) -> bytes:
    return _chunk(json.dumps({"type": kind, "object": _slice(index, str(version))}).encode())


def _bookmark(version: int) -> dict[str, Any]:
    annotations = {"k8s.io/initial-events-end": "true"}
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version), "annotations": annotations}}}


def _chunk(line: bytes) -> bytes:
    return b"%x\r\n%b\n\r\n" % (len(line) + 1, line)


# Everything together


def measure(name: str, *arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, "-m", "hack.bench.load", "--measure", name, *arguments]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def show(title: str, figures: Mapping[str, float]) -> None:
    print(f"\n{title}")
    for name, figure in figures.items():
        print(f"  {name:20} {figure:12,.3f}" if figure < 100 else f"  {name:20} {figure:12,.0f}")


def measure_size(size: str, streaming: Literal["offered", "forbidden"]) -> None:
    from tests.kit.apiserver.process import ApiServerProcess  # not needed in the processes that are measured

    with ApiServerProcess(arguments=["--cluster", size]) as server:
        server.control.set(streaming_lists=streaming)
        figures = measure("load", str(server.kubeconfig))
        if streaming == "offered":
            figures |= measure("yardstick", str(server.kubeconfig))
    show(f"{size}, {'streamed' if streaming == 'offered' else 'in pages'}", figures)


def measure_changes(count: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = multiprocessing.get_context("fork").Process(target=replay, args=(listener, count), daemon=True)
        sender.start()
        figures = measure("changes", f"http://127.0.0.1:{listener.getsockname()[1]}", str(count))
        sender.terminate()
        sender.join()
    show(f"{count:,} changes", figures)


MEASUREMENTS: Mapping[str, Callable[..., dict[str, float]]] = {
    "load": load,
    "yardstick": yardstick,
    "changes": changes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=SIZES, metavar="SERVICESxENDPOINTS")
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, *rest = arguments.measure
        print(json.dumps(MEASUREMENTS[name](*rest)))
        return
    for size in arguments.sizes:
        measure_size(size, "offered")
        measure_size(size, "forbidden")
    if arguments.changes:
        measure_changes(arguments.changes)


if __name__ == "__main__":
    main()
