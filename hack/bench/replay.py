"""A server of changes for `hack.bench.load`: it answers one watch with prepared text, as fast as that is read."""

import json
import socket
from collections.abc import Iterator
from typing import Any

SLICES = 1_000
_BATCH = 100


def replay(listener: socket.socket, count: int) -> None:
    """Answer one watch: slices, the bookmark, then ``count`` changes, each in a chunk of its own; then keep it open."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        first = [_event("ADDED", index, SLICES) for index in range(SLICES)]
        connection.sendall(b"".join([*first, _chunk(json.dumps(_bookmark(SLICES)).encode())]))
        for batch in _batches(count):
            connection.sendall(batch)
        connection.recv(1)  # the client goes when it has seen enough


def _batches(count: int) -> Iterator[bytes]:
    templates = [_template(index) for index in range(SLICES)]
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        yield b"".join(_chunk(templates[number * 7 % SLICES] % (SLICES + 1 + number)) for number in numbers)


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
