"""Run the test API server: ``python -m tests.kit.apiserver --port 6443 --write-kubeconfig FILE --objects FILE …``.

When it serves, it prints one line, ``ready URL``. SIGTERM and SIGINT end it.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import yaml

from tests.kit.apiserver.control import serve_control
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.objects import make_cluster
from tests.kit.apiserver.rest.api import Settings
from tests.kit.apiserver.server import ApiServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; returns the exit code."""
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(_make_server(options))
            if options.control is not None:
                stack.enter_context(serve_control(server, options.control))
            if options.write_kubeconfig is not None:
                server.kubeconfig(options.write_kubeconfig)
            if options.write_service_account is not None:
                server.service_account(options.write_service_account)
            if options.end_with_stdin:
                threading.Thread(target=_wait_for_end_of_input, args=(stop,), daemon=True).start()
            print(f"ready {server.url}", flush=True)
            stop.wait()
    except (OSError, ValueError, yaml.YAMLError) as error:
        sys.stderr.write(f"apiserver: {error}\n")
        return 1
    return 0


def read_objects(path: Path) -> Iterator[Json]:
    """All objects in a YAML or JSON file: documents, a List, or a ServiceList and the like.

    Raises:
        ValueError: something else is in it.
    """
    text = path.read_bytes()
    # JSON is YAML too, but takes a hundred times as long when read as such.
    documents = [msgspec.json.decode(text)] if path.suffix == ".json" else yaml.load_all(text, Loader=yaml.CSafeLoader)
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ValueError(f"{path}: expected an object, found {type(document).__name__}")
        if not str(document.get("kind", "")).endswith("List"):
            yield document
            continue
        typed = {"kind": document["kind"].removesuffix("List"), "apiVersion": document.get("apiVersion")}
        for item in document.get("items") or []:
            yield {**(typed if document["kind"] != "List" else {}), **item}


def _wait_for_end_of_input(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def _make_server(options: argparse.Namespace) -> ApiServer:
    server = ApiServer(
        address=options.address,
        port=options.port,
        names=options.name,
        tls=not options.no_tls,
        settings=Settings(anonymous=options.anonymous, streaming_lists=options.streaming_lists),
    )
    for path in options.objects:
        for obj in read_objects(path):
            server.put(obj)
    if options.cluster is not None:
        services, _, endpoints = options.cluster.partition("x")
        for obj in make_cluster(int(services), int(endpoints)):
            server.put(obj)
    return server


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.kit.apiserver", description=__doc__, allow_abbrev=False)
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--name", action="append", default=[], help="further name or address for the certificate")
    parser.add_argument("--objects", action="append", default=[], type=Path, metavar="FILE", help="YAML or JSON")
    parser.add_argument("--cluster", metavar="SERVICESxENDPOINTS", help="make up that many, as in 1000x5")
    parser.add_argument("--write-kubeconfig", type=Path, metavar="FILE")
    parser.add_argument("--write-service-account", type=Path, metavar="FOLDER")
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket for tests.kit.apiserver.control")
    parser.add_argument("--anonymous", action="store_true", help="ask for no credentials")
    parser.add_argument("--no-tls", action="store_true", help="serve plain HTTP")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when stdin does, thus with the parent")
    parser.add_argument(
        "--streaming-lists", choices=["offered", "forbidden", "ignored"], default="offered", help="sendInitialEvents"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
