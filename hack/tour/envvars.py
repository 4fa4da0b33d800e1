"""The environment variables by which a container finds the Services of its namespace, exactly as a kubelet makes them.

It makes them once, when the container starts: a Service made later, or given another port, is not in them. Source:
kubelet's pkg/kubelet/envvars and getServiceEnvVarMap in pkg/kubelet/kubelet_pods.go.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from hack.tour.dns.objects import Folder, Service

MASTER_NAMESPACE, MASTER_SERVICE = "default", "kubernetes"


def of_pod(services: Iterable[Service], namespace: str, *, enable_service_links: bool = True) -> dict[str, str]:
    """The variables for the containers of a pod in `namespace`.

    There are the namespace's own Services that have a ClusterIP, unless the pod has said ``enableServiceLinks: false``;
    and default/kubernetes in any case, unless the namespace has a Service of that name.
    """
    chosen: dict[str, Service] = {}
    for service in services:
        where, name = service.metadata.namespace, service.metadata.name
        if service.spec.cluster_ip in (None, "", "None"):
            continue
        if where == namespace and enable_service_links:
            chosen[name] = service
        elif (where, name) == (MASTER_NAMESPACE, MASTER_SERVICE):
            chosen.setdefault(name, service)
    return {key: value for service in chosen.values() for key, value in of_service(service).items()}


def of_service(service: Service) -> dict[str, str]:
    """The variables for one Service: Kubernetes' own, then those that Docker once made for linked containers."""
    address = service.spec.cluster_ip or ""
    host = f"[{address}]" if ":" in address else address
    prefix = service.metadata.name.replace("-", "_").upper()
    ports = service.spec.ports or ()
    made = {f"{prefix}_SERVICE_HOST": address}
    if ports:
        made[f"{prefix}_SERVICE_PORT"] = str(ports[0].port)
    for port in ports:
        if port.name:
            made[f"{prefix}_SERVICE_PORT_{port.name.replace('-', '_').upper()}"] = str(port.port)
    for index, port in enumerate(ports):
        protocol = port.protocol or "TCP"
        url = f"{protocol.lower()}://{host}:{port.port}"
        if index == 0:
            made[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        made |= {
            link: url,
            f"{link}_PROTO": protocol.lower(),
            f"{link}_PORT": str(port.port),
            f"{link}_ADDR": address,
        }
    return made


def main() -> int:
    """Print the variables, a line each, as a kubelet would give them to a container that starts now."""
    parser = argparse.ArgumentParser(prog="python -m hack.tour.envvars", description=main.__doc__)
    parser.add_argument("manifests", type=Path, help="folder with Services")
    parser.add_argument("--namespace", default="default", help="the pod's (default: %(default)s)")
    options = parser.parse_args()
    for name, value in of_pod(Folder(options.manifests).objects().services, options.namespace).items():
        print(f"{name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
