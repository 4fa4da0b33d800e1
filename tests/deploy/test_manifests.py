"""The manifests under deploy/: valid to Kubernetes, true to kproxy's flags, ports and paths, and no right too many.

The way from a folder to objects is `tests.kit.deploy.manifests.render`; the first test holds it to what kustomize
itself printed.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kproxy import __version__
from kproxy.api.kinds import Kind
from kproxy.backends.iptables.kernel.legacy.lock import DEFAULT_PATH
from kproxy.config import Config, ProxyMode, load
from kproxy.report.events import EVENTS_PATH
from kproxy.report.health import HealthState
from kproxy.report.metrics import Metrics
from kproxy.report.pages import health_routes, metrics_routes
from tests.kit.apiserver.kinds import Json
from tests.kit.deploy.manifests import DEPLOY, OVERLAYS, documents, find, render, typed
from tests.kit.paths import TESTS

HERE = Path(__file__).parent
CONFIG_FOLDER = "/var/lib/kube-proxy"
KUBE_PROXY_CONFIG_MAP = (TESTS / "config" / "samples" / "kubeadm.conf").read_text()
OPERATOR = ("PodMonitor", "ServiceMonitor", "PrometheusRule")

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture(scope="module")
def monitored() -> list[Json]:
    return render(HERE / "monitored")


def daemon_set(overlay: str) -> Json:
    return find(render(DEPLOY / "overlays" / overlay), "DaemonSet")


def pod_of(overlay: str) -> Json:
    pod: Json = daemon_set(overlay)["spec"]["template"]["spec"]
    return pod


def containers(pod: Json) -> Iterator[Json]:
    yield from pod["initContainers"]
    yield from pod["containers"]


def effective(args: list[str], config_map: str, tmp_path: Path) -> Config:
    """What a container's arguments amount to, as kproxy reads them."""
    (tmp_path / "config.conf").write_text(config_map)
    values = {"$(NODE_NAME)": "node-a", "$(POD_IP)": "10.0.0.1"}
    for name, value in values.items():
        args = [arg.replace(name, value) for arg in args]
    return load([arg.replace(CONFIG_FOLDER, str(tmp_path)) for arg in args])


def config_of(overlay: str) -> str:
    """The configuration file that the pods of an overlay see."""
    objects = render(DEPLOY / "overlays" / overlay)
    mounted = next(v["configMap"]["name"] for v in pod_of(overlay)["volumes"] if v["name"] == "config")
    if mounted == "kube-proxy":  # the cluster has it
        return KUBE_PROXY_CONFIG_MAP
    text: str = find(objects, "ConfigMap", mounted)["data"]["config.conf"]
    return text


def test_kustomizations_are_read_as_kustomize_reads_them() -> None:
    def key(one: Json) -> tuple[str, str]:
        return one["kind"], one["metadata"]["name"]

    assert sorted(render(HERE / "sample"), key=key) == sorted(documents(HERE / "sample.yaml"), key=key)


@each_overlay
def test_objects_are_valid(overlay: str) -> None:
    kinds = [type(typed(one)).__name__ for one in render(DEPLOY / "overlays" / overlay)]
    assert kinds.count("V1DaemonSet") == 1


def test_objects_with_all_components_are_valid(monitored: list[Json]) -> None:
    for one in monitored:
        if one["kind"] not in OPERATOR:
            typed(one)


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_no_file_lies_about_unused(path: Path) -> None:
    """Every YAML file is a kustomization, belongs to one, or is named in a script or another file beside it."""
    if path.name == "kustomization.yaml":
        return
    others = [one for one in path.parent.iterdir() if one.is_file() and one != path]
    assert any(path.name in other.read_text() for other in others)


def test_a_field_nobody_knows_is_noticed() -> None:
    obj = daemon_set("kind")
    obj["spec"]["template"]["spec"]["hostNetworking"] = True
    with pytest.raises(AssertionError, match="hostNetworking"):
        typed(obj)


# What runs.


@each_overlay
def test_arguments_and_configuration_are_kproxys(overlay: str, tmp_path: Path) -> None:
    for container in containers(pod_of(overlay)):
        config = effective(container["args"], config_of(overlay), tmp_path)
        assert config.node_name == "node-a"
        assert config.mode is ProxyMode.IPTABLES
        assert config.warnings == ()
        assert config.cluster_cidrs


@each_overlay
def test_the_init_container_does_what_needs_more_rights_and_ends(overlay: str) -> None:
    (init,) = pod_of(overlay)["initContainers"]
    assert init["command"][:2] == ["sh", "-c"]
    assert "exec kproxy --init-only" in init["command"][2]
    assert init["securityContext"]["privileged"] is True


@each_overlay
def test_the_pod_that_stays_has_two_capabilities_and_no_way_to_more(overlay: str) -> None:
    pod = pod_of(overlay)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
    }
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostPID", "hostIPC"} & pod.keys()


@each_overlay
def test_probes_and_ports_are_those_that_kproxy_serves(overlay: str, tmp_path: Path) -> None:
    (container,) = pod_of(overlay)["containers"]
    config = effective(container["args"], config_of(overlay), tmp_path)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.healthz_bind is not None
    assert config.metrics_bind is not None
    assert ports == {"healthz": config.healthz_bind.port, "metrics": config.metrics_bind.port}
    assert config.healthz_bind.host == ""  # the kubelet asks at the node's address
    pages = health_routes(HealthState(), Metrics())
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert set(paths.values()) <= pages.keys()
    assert {container[name]["httpGet"]["port"] for name in paths} == {"healthz"}
    # Asked before it can answer, it would have a Warning event at every start.
    assert container["startupProbe"]["initialDelaySeconds"] >= 3


@each_overlay
def test_what_kproxy_writes_to_is_mounted_and_all_else_is_not(overlay: str, tmp_path: Path) -> None:
    pod = pod_of(overlay)
    (container,) = pod["containers"]
    config = effective(container["args"], config_of(overlay), tmp_path)
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {str(DEFAULT_PATH), config.kproxy.state_directory}
    host_paths = {v["hostPath"]["path"]: v["hostPath"].get("type") for v in pod["volumes"] if "hostPath" in v}
    assert host_paths == {
        "/run/xtables.lock": "FileOrCreate",
        "/run/kproxy": "DirectoryOrCreate",
        "/lib/modules": None,
    }
    mounted = {mount["name"] for one in containers(pod) for mount in one["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@each_overlay
def test_it_runs_wherever_there_is_a_node_and_before_all_others(overlay: str) -> None:
    spec = daemon_set(overlay)["spec"]
    pod = spec["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["dnsPolicy"] == "Default"
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert all(one["resources"].keys() == {"requests"} for one in containers(pod))
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_image_is_named_after_the_version_everywhere() -> None:
    for overlay in OVERLAYS:
        assert {one["image"] for one in containers(pod_of(overlay))} == {f"kproxy:{__version__}"}
    for path in (DEPLOY / "overlays" / "kind" / "up.sh", DEPLOY.parent / "Dockerfile", *DEPLOY.glob("docs/*.md")):
        assert set(re.findall(r"(?<![\w/.-])kproxy:(\d+\.\d+\.\d+)", path.read_text())) <= {__version__}, path


# The way to the API server.


@pytest.mark.parametrize(
    ("overlay", "host", "port"),
    [("kind", "kind-control-plane", "6443"), ("minikube", "control-plane.minikube.internal", "8443")],
)
def test_where_there_is_no_kube_proxy_the_api_server_is_reached_by_its_own_name(
    overlay: str, host: str, port: str, tmp_path: Path
) -> None:
    (container,) = pod_of(overlay)["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert (env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]) == (host, port)
    config = effective(container["args"], config_of(overlay), tmp_path)
    assert not config.proxy.client_connection.kubeconfig  # else the variables would not count


def test_where_kube_proxy_runs_its_kubeconfig_leads_to_the_api_server(tmp_path: Path) -> None:
    pod = pod_of("kubeadm")
    (container,) = pod["containers"]
    config = effective(container["args"], config_of("kubeadm"), tmp_path)
    folder = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config")
    assert config.proxy.client_connection.kubeconfig == f"{folder}/kubeconfig.conf"
    assert pod["nodeSelector"]["kproxy.dev/proxy"] == "kproxy"


# Rights.


def rules() -> Iterator[tuple[str, str, str]]:
    """Every (API group, resource, verb) that kproxy is allowed."""
    for rule in find(render(DEPLOY / "base"), "ClusterRole")["rules"]:
        assert rule.keys() == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb


def test_rights_are_those_for_the_kinds_that_kproxy_knows_and_for_events() -> None:
    group, resource = re.fullmatch(r"/apis/([^/]+)/v1/namespaces/\{namespace\}/(.+)", EVENTS_PATH).groups()  # type: ignore[union-attr]
    wanted = {(kind.group, kind.resource, verb) for kind in Kind for verb in ("list", "watch")}
    assert set(rules()) == wanted | {(group, resource, "create")}
    assert len(list(rules())) == len(wanted) + 1


def test_rights_go_to_the_account_that_the_pods_use() -> None:
    objects = render(DEPLOY / "base")
    (subject,) = find(objects, "ClusterRoleBinding")["subjects"]
    account = find(objects, "ServiceAccount")["metadata"]
    assert (subject["kind"], subject["name"], subject["namespace"]) == (
        "ServiceAccount", account["name"], account["namespace"],
    )  # fmt: skip
    assert find(objects, "DaemonSet")["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    assert find(objects, "ClusterRoleBinding")["roleRef"]["name"] == "kproxy"


# Monitoring.


def test_metrics_are_reachable_where_prometheus_looks(monitored: list[Json], tmp_path: Path) -> None:
    template = find(monitored, "DaemonSet")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    config = effective(container["args"], KUBE_PROXY_CONFIG_MAP, tmp_path)
    assert config.metrics_bind is not None
    assert config.metrics_bind.host == "10.0.0.1"
    assert "/metrics" in metrics_routes(Metrics(), config, config.mode, 0.0)
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == str(config.metrics_bind.port)


def test_monitors_select_what_is_there_and_call_the_job_kube_proxy(monitored: list[Json]) -> None:
    template = find(monitored, "DaemonSet")["spec"]["template"]
    labels = template["metadata"]["labels"]
    port_names = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    pod_monitor = find(monitored, "PodMonitor")["spec"]
    assert pod_monitor["selector"]["matchLabels"].items() <= labels.items()
    assert labels[pod_monitor["jobLabel"]] == "kube-proxy"
    assert {one["port"] for one in pod_monitor["podMetricsEndpoints"]} <= port_names
    service = find(monitored, "Service", "kproxy-metrics")
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= port_names
    service_monitor = find(monitored, "ServiceMonitor")["spec"]
    assert service_monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][service_monitor["jobLabel"]] == "kube-proxy"
    assert {one["port"] for one in service_monitor["endpoints"]} == {port["name"] for port in service["spec"]["ports"]}


MONITOR_FIELDS: dict[str, Any] = {
    "PodMonitor": {"jobLabel", "selector", "podMetricsEndpoints"},
    "ServiceMonitor": {"jobLabel", "selector", "endpoints"},
    "PrometheusRule": {"groups"},
}


@pytest.mark.parametrize("kind", OPERATOR)
def test_objects_of_the_prometheus_operator_have_its_fields(monitored: list[Json], kind: str) -> None:
    one = find(monitored, kind)
    assert one["apiVersion"] == "monitoring.coreos.com/v1"
    assert one["spec"].keys() == MONITOR_FIELDS[kind]


def test_the_operators_rules_are_the_plain_ones(monitored: list[Json]) -> None:
    (plain,) = documents(DEPLOY / "monitoring" / "rules.yaml")
    assert find(monitored, "PrometheusRule")["spec"] == plain


def test_the_dashboard_is_in_a_config_map_for_grafana(monitored: list[Json]) -> None:
    config_map = find(monitored, "ConfigMap", "kproxy-dashboard")
    assert config_map["data"]["kproxy.json"] == (DEPLOY / "monitoring" / "dashboard.json").read_text()
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
