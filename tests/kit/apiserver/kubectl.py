"""What kubectl asks of an API server: recorded once, in kubectl.json, so that no test needs it.

With a kubectl on PATH, this takes the recording anew, and prints what kubectl made of the answers:

    python -m tests.kit.apiserver.kubectl
"""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from tests.kit.apiserver.objects import make_service, make_slice
from tests.kit.apiserver.rawclient import RawClient, Reply
from tests.kit.apiserver.requestlog import Request
from tests.kit.apiserver.server import ApiServer

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec:
  ports: [{port: 80, targetPort: http}]
"""
COMMANDS: Sequence[tuple[str, str]] = (
    ("get services -A", ""),
    ("apply --validate=false -f -", MANIFEST),
    ("apply --validate=false -f - (changed)", MANIFEST.replace("port: 80", "port: 81")),
    ("get service api -n shop -o jsonpath={.spec.ports[*].port}", ""),
    ("describe service api -n shop", ""),
    ("delete service api -n shop", ""),
    ("get endpointslices --watch --output-watch-events -o name", ""),
)
"""What is done, one after the other, and what it is given to read."""
_FILE = Path(__file__).with_name("kubectl.json")


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request."""

    method: str
    path: str
    """With its query."""
    accept: str
    content_type: str = ""
    body: str = ""


class Step(msgspec.Struct, frozen=True):
    """What one command asked, in this order."""

    command: str
    requests: tuple[Asked, ...]


def recording() -> list[Step]:
    """Return what was recorded."""
    return msgspec.json.decode(_FILE.read_bytes(), type=list[Step])


def begin(server: ApiServer) -> None:
    """Put into a server what was there when the recording was taken."""
    server.put(make_service("web", "shop"))
    server.put(make_slice("web", endpoints=["10.244.0.5"]))


def ask(client: RawClient, asked: Asked) -> Reply:
    """Ask the same once more."""
    body = msgspec.json.decode(asked.body) if asked.body else None
    kind = {"Content_Type": asked.content_type} if asked.content_type else {}
    return client.request(asked.path, method=asked.method, body=body, Accept=asked.accept, **kind)


def _asked(request: Request) -> Asked:
    query = f"?{urlencode(request.query)}" if request.query else ""
    return Asked(
        request.method,
        request.path + query,
        ", ".join(request.header("Accept")),
        ", ".join(request.header("Content-Type")),
        request.body.decode(),
    )


def _change(server: ApiServer) -> None:
    """Do what a watch is to tell of, and end it."""
    server.requests.wait_open("endpointslices", timeout=60)
    server.put(make_slice("web", endpoints=["10.244.0.6"]))
    server.put(make_slice("api", endpoints=["10.244.0.7"]))
    server.delete("endpointslices", "default", "web-1")
    server.end_watches()


def main() -> None:
    """Record."""
    with ApiServer() as server, tempfile.TemporaryDirectory() as folder:
        begin(server)
        options = [f"--kubeconfig={server.kubeconfig(Path(folder) / 'kubeconfig')}", f"--cache-dir={folder}/cache"]
        steps = []
        for command, given in COMMANDS:
            server.requests.clear()
            words = ["kubectl", *options, *command.partition(" (")[0].split()]
            with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                if "--watch" in words:
                    _change(server)
                output, _ = process.communicate(given, timeout=60)
            print(f"{command}: exit {process.returncode}\n{output}")
            steps.append(Step(command, tuple(map(_asked, server.requests.seen()))))
    _FILE.write_bytes(msgspec.json.format(msgspec.json.encode(steps)) + b"\n")


if __name__ == "__main__":
    main()
