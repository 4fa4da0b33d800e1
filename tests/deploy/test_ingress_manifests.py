"""The manifests under deploy/ingress: valid to Kubernetes, true to the program's flags and ports, no right too many."""

from argparse import Namespace

import pytest

from kproxy import __version__
from kproxy.api.types import ObjectKey
from kproxy.config import ArgumentParser
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.config.flags import add_flags, from_flags
from kproxy.ingress.config.settings import Settings
from kproxy.ingress.daemon.statuses import LEASE_NAME
from kproxy.report.events import EVENTS_PATH
from tests.kit.apiserver.kinds import Json
from tests.kit.deploy.manifests import DEPLOY, documents, find, render, typed

INGRESS = DEPLOY / "ingress"
OVERLAYS = ("kind", "bare")
NAME = "kproxy-ingress"
WATCHED_ONLY = {"list", "watch"}

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def objects(overlay: str) -> list[Json]:
    return render(INGRESS / "overlays" / overlay)


def pod(overlay: str) -> Json:
    found: Json = find(objects(overlay), "DaemonSet", NAME)["spec"]["template"]["spec"]
    return found


def container(overlay: str) -> Json:
    (found,) = pod(overlay)["containers"]
    return dict(found)


def settings(overlay: str) -> Settings:
    parser = ArgumentParser(prog="kproxy ingress")
    add_flags(parser)
    options: Namespace = parser.parse_args(container(overlay)["args"])
    return from_flags(options)


def rights(overlay: str) -> dict[tuple[str, str], set[str]]:
    """Verbs by group and resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for kind in ("ClusterRole", "Role"):
        for rule in find(objects(overlay), kind, NAME)["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


@each_overlay
def test_every_object_is_what_kubernetes_takes(overlay: str) -> None:
    for one in objects(overlay):
        typed(one)


@each_overlay
def test_the_program_takes_its_flags(overlay: str) -> None:
    found = settings(overlay)
    assert found.doors.engine == ObjectKey(NAME, NAME)
    find(objects(overlay), "Service", NAME)
    assert pod(overlay)["terminationGracePeriodSeconds"] > (
        found.written.timeouts.shutdown + found.written.timeouts.shutdown_delay
    )
    (mount,) = container(overlay)["volumeMounts"]
    assert found.written.state_dir.startswith(mount["mountPath"])


@each_overlay
def test_ports_are_those_it_listens_at(overlay: str) -> None:
    found = settings(overlay)
    ports = {port["name"]: port["containerPort"] for port in container(overlay)["ports"]}
    assert found.healthz is not None
    assert found.metrics is not None
    listening = {
        "http": found.plan.http_binds[0].port,
        "https": found.plan.https_binds[0].port,
        "healthz": found.healthz.port,
        "metrics": found.metrics.port,
    }
    assert ports == listening
    assert {probe["httpGet"]["path"] for name, probe in container(overlay).items() if name.endswith("Probe")} <= {
        "/livez",
        "/readyz",
    }
    service = find(objects(overlay), "Service", NAME)["spec"]
    assert {port["port"]: port["targetPort"] for port in service["ports"]} == {80: "http", 443: "https"}
    labels = find(objects(overlay), "DaemonSet", NAME)["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()


@each_overlay
def test_it_may_read_what_it_watches_and_write_what_it_says(overlay: str) -> None:
    found = rights(overlay)
    for kind in IngressKind:
        verbs = found.pop((kind.group, kind.resource))
        writes = {
            IngressKind.SERVICE: {"create", "patch", "delete"},
            IngressKind.ENDPOINT_SLICE: {"create", "patch"},
            IngressKind.SECRET: {"get"},
        }.get(kind, set())
        assert verbs == WATCHED_ONLY | writes, kind
    for kind in (IngressKind.INGRESS, IngressKind.GATEWAY_CLASS, IngressKind.GATEWAY, IngressKind.HTTP_ROUTE):
        assert found.pop((kind.group, f"{kind.resource}/status")) == {"patch"}
    assert found.pop(("events.k8s.io", EVENTS_PATH.rpartition("/")[2])) == {"create"}
    assert found.pop(("coordination.k8s.io", "leases")) == {"create", "get", "update"}
    assert found.pop((IngressKind.GATEWAY.group, "gateways/finalizers")) == {"update"}
    assert found == {}
    (named,) = [rule for rule in find(objects(overlay), "Role", NAME)["rules"] if "resourceNames" in rule]
    assert named["resourceNames"] == [LEASE_NAME]


@each_overlay
def test_it_is_nobody_and_can_do_nothing_else(overlay: str) -> None:
    context = pod(overlay)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] != 0
    own = container(overlay)["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert not pod(overlay).get("hostNetwork")
    (volume,) = pod(overlay)["volumes"]
    assert volume["emptyDir"]["medium"] == "Memory"
    assert pod(overlay)["serviceAccountName"] == find(objects(overlay), "ServiceAccount", NAME)["metadata"]["name"]


@each_overlay
def test_the_image_is_this_version_s(overlay: str) -> None:
    assert container(overlay)["image"] == f"{NAME}:{__version__}"


def test_the_classes_name_our_controllers() -> None:
    (ingress,) = documents(INGRESS / "base" / "classes.yaml")
    (gateway,) = documents(INGRESS / "components" / "gateway-api" / "gatewayclass.yaml")
    found = settings("kind").plan
    assert ingress["spec"]["controller"] == found.ingress_controller
    assert ingress["metadata"]["name"] == gateway["metadata"]["name"] == found.ingress_class
    assert gateway["spec"]["controllerName"] == found.gateway_controller


def test_the_image_is_made_for_that_user_and_these_ports() -> None:
    stage = (DEPLOY.parent / "Dockerfile").read_text().partition("FROM scratch AS ingress\n")[2].partition("\nFROM ")[0]
    user = pod("kind")["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in stage
    (exposed,) = [line.split()[1:] for line in stage.splitlines() if line.startswith("EXPOSE")]
    assert {int(port) for port in exposed} == {port["containerPort"] for port in container("kind")["ports"]}
    assert 'ENTRYPOINT ["/usr/local/bin/kproxy", "ingress"]' in stage
