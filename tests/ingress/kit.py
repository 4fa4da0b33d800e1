"""Worlds of Ingress and Gateway API for tests: from YAML as people write it to a plan, and requests through it."""

import datetime
import functools
import json
import textwrap
from base64 import b64encode
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kproxy.api.manifests import Manifest, combine, read_manifest
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.plan.gateway.verdicts import Verdict
from kproxy.ingress.plan.model import Frontend, Protocol
from kproxy.ingress.plan.planner import HttpPlanner, Planned
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.plan.walk import Found, Request, find

OFFLINE = PlanSettings(in_cluster=False, without_class=True, gateways_without_class=True)
CLASSES = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: kproxy}
spec: {controllerName: kproxy.dev/gateway}
"""


def service(name: str, namespace: str = "default", port: int = 80, extra: str = "") -> str:
    """Return a Service of one port with one ready endpoint, whose address tells the two by name."""
    address = f"10.0.{sum(namespace.encode()) % 250}.{sum(name.encode()) % 250}"
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: {port}{extra}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: ["{address}"]}}]
"""


def shop(hosts: Mapping[str, Mapping[str, str]]) -> str:
    """An Ingress with a certificate of its own: for each host, paths and the Services behind them, at port 80."""
    rules = [
        {
            "host": host,
            "http": {
                "paths": [
                    {"path": path, "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": 80}}}}
                    for path, name in paths.items()
                ]
            },
        }
        for host, paths in hosts.items()
    ]
    spec = {"tls": [{"hosts": ["shop.example.com"], "secretName": "shop-tls"}], "rules": rules}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shop"}}
    return json.dumps(kind | {"spec": spec})


@functools.cache
def key_and_certificate(name: str) -> tuple[str, str]:
    """Return a private key and a certificate of its own for a name, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return pem, certificate.public_bytes(Encoding.PEM).decode()


def secret(name: str, namespace: str = "default", host: str = "shop.example.com") -> str:
    """Return a Secret with a certificate for a host."""
    key, certificate = key_and_certificate(host)
    crt, pem = b64encode(certificate.encode()).decode(), b64encode(key.encode()).decode()
    return f"""
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
type: kubernetes.io/tls
data: {{tls.crt: {crt}, tls.key: {pem}}}
"""


@functools.cache
def _read(text: str) -> Manifest:
    """Read what many worlds have in common once."""
    return read_manifest(textwrap.dedent(text).encode(), "test.yaml", IngressKind)


def planner(*documents: str, settings: PlanSettings = OFFLINE) -> HttpPlanner:
    """Return a planner that holds what some YAML says."""
    combined = combine({f"{place:03}.yaml": _read(text) for place, text in enumerate(documents)}, None, IngressKind)
    assert not combined.problems, combined.problems
    made = HttpPlanner(settings)
    for kind, objects in combined.objects.items():
        made.replace(kind, objects)
    return made


def planned(*documents: str, settings: PlanSettings = OFFLINE) -> Planned:
    """Return the plan of what some YAML says."""
    return planner(*documents, settings=settings).refresh()


def frontend(of: Planned, port: int = 80, protocol: Protocol = Protocol.HTTP) -> Frontend:
    """Return the one frontend at a port."""
    (found,) = [one for one in of.plan.frontends if one.port == port and one.protocol is protocol]
    return found


def ask(of: Planned, host: str, path: str = "/", port: int = 80, **request: object) -> Found:
    """Return where a request ends up."""
    protocol = Protocol.HTTPS if port == 443 else Protocol.HTTP
    return find(of.plan, frontend(of, port, protocol), Request(host=host, path=path, **request))  # type: ignore[arg-type]


def rule_of(of: Planned, host: str, path: str = "/", port: int = 80, **request: object) -> str:
    """Return which rule takes a request, or the code that it is answered with."""
    found = ask(of, host, path, port, **request)
    return str(found.rule.key) if found.rule is not None else str(found.status)


def backend_of(of: Planned, host: str, path: str = "/", port: int = 80, **request: object) -> str:
    """Return which Service gets a request, or the code that it is answered with."""
    found = ask(of, host, path, port, **request)
    if found.status or found.rule is None:
        return str(found.status)
    return ", ".join(str(choice.backend) for choice in found.rule.backends)


def problems(of: Planned) -> list[str]:
    """Return all problems as text."""
    return [str(problem) for problem in of.problems]


def listener_conditions(of: Planned, gateway: str, listener: str) -> dict[str, Verdict]:
    """Return what is said of a listener."""
    (verdict,) = [one for one in of.gateways.gateways if one.key.name == gateway]
    (found,) = [one for one in verdict.listeners if one.name == listener]
    return dict(found.conditions)


def route_conditions(of: Planned, route: str) -> dict[str, Verdict]:
    """Return what the only parent of a route says of it."""
    (verdict,) = [one for one in of.gateways.routes if one.key.name == route]
    (parent,) = verdict.parents
    return dict(parent.conditions)
