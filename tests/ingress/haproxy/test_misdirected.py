"""Requests on a connection whose TLS was meant for another listener: answered 421, lest a listener is got around.

Browsers use one connection of HTTP/2 for all hosts of a certificate. Source: GEP-3567, and RFC 9110, 15.5.20.
"""

import subprocess
from pathlib import Path

import pytest

from kproxy.ingress.haproxy.engine import Engine
from tests.ingress.gateways import gateway, route
from tests.ingress.haproxy.kit import slices
from tests.ingress.kit import CLASSES, key_and_certificate, planned, secret
from tests.kit.netns import need

pytestmark = pytest.mark.kernel

NAMES = {"any": "", "exact": "one.org", "wild": "*.wild.org", "deep": "two.wild.org"}
"""Listeners that share a certificate, by name; each is served by a pod of its own but the last."""


@pytest.fixture(scope="module", autouse=True)
def applied(running: Engine) -> None:
    need("curl")
    tls = {"port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "shared"}]}}
    listeners = [{"name": name, **tls} | ({"hostname": host} if host else {}) for name, host in NAMES.items()]
    pods = dict(zip(NAMES, ("a", "b", "c", "a"), strict=True))
    routes = [
        route(
            {"backendRefs": [{"name": pod, "port": 80}]},
            name=name,
            parents=[{"name": "gw", "sectionName": name}],
            hostnames=["known.org"] if name == "any" else [],
        )
        for name, pod in pods.items()
    ]
    services = [slices(pod, [f"10.1.0.{number}"]) for number, pod in enumerate("abc", 1)]
    made = planned(CLASSES, gateway(*listeners), *routes, *services, secret("shared", host="known.org"))
    assert running.apply(made.plan).refused == []


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize(
    ("server_name", "host", "code", "pod"),
    [
        ("known.org", "known.org", 200, "a"),
        ("known.org", "KNOWN.org:443", 200, "a"),
        ("known.org", "unknown.org", 404, ""),
        ("known.org", "one.org", 421, ""),
        ("one.org", "one.org", 200, "b"),
        ("one.org", "known.org", 421, ""),
        ("one.org", "unknown.org", 421, ""),
        ("x.wild.org", "x.wild.org", 200, "c"),
        ("x.wild.org", "y.z.wild.org", 200, "c"),
        ("x.wild.org", "two.wild.org", 421, ""),
        ("x.wild.org", "known.org", 421, ""),
        ("two.wild.org", "two.wild.org", 200, "a"),
        ("two.wild.org", "x.wild.org", 421, ""),
        ("nobody.org", "known.org", 200, "a"),
        ("nobody.org", "one.org", 421, ""),
    ],
)
def test_a_request_belongs_to_the_listener_of_its_connection(
    version: str, server_name: str, host: str, code: int, pod: str, tmp_path: Path
) -> None:
    (tmp_path / "trust.pem").write_text(key_and_certificate("known.org")[1])
    command = ["curl", "-sS", version, "-k", "--resolve", f"{server_name}:443:127.0.0.1", "-H", f"Host: {host}"]
    command += ["-o", "/dev/null", "-w", "%{http_code} %{header_json}", f"https://{server_name}/"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert said.split()[0] == str(code)
    assert (f'"x-pod":["{pod}"]' in said) is bool(pod)
