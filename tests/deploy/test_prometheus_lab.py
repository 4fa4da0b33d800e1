"""A real Prometheus scrapes a kproxy at work: all is there that deploy/monitoring and others for kube-proxy ask for."""

import datetime
import itertools
import json
import math
import os
import signal
from collections.abc import Iterator

import pytest

from hack.lab import until
from hack.lab.kproxy import METRICS_PORT
from tests.kit.apiserver.objects import make_service, service_port
from tests.kit.deploy.manifests import DEPLOY, documents
from tests.kit.deploy.prometheus import Prometheus, dashboard_queries, with_variables
from tests.kit.packets import PATIENCE, PORT, SILENCE, World, slices

pytestmark = pytest.mark.kernel

DASHBOARD = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())

MIXIN = """
sum(up{cluster="$cluster", job="kube-proxy"})
sum(rate(kubeproxy_sync_proxy_rules_duration_seconds_count{cluster="$cluster", job="kube-proxy", instance=~"$instance"}[$__rate_interval]))
histogram_quantile(0.99, sum(rate(kubeproxy_sync_proxy_rules_duration_seconds_bucket{cluster="$cluster", job="kube-proxy", instance=~"$instance"}[$__rate_interval])) by (le))
sum(rate(kubeproxy_network_programming_duration_seconds_count{cluster="$cluster", job="kube-proxy", instance=~"$instance"}[$__rate_interval]))
histogram_quantile(0.99, sum(rate(kubeproxy_network_programming_duration_seconds_bucket{cluster="$cluster", job="kube-proxy", instance=~"$instance"}[$__rate_interval])) by (instance, le))
sum(rate(rest_client_requests_total{cluster="$cluster", job="kube-proxy", instance=~"$instance", code=~"2.."}[$__rate_interval]))
histogram_quantile(0.99, sum(rate(rest_client_request_duration_seconds_bucket{cluster="$cluster", job="kube-proxy", instance=~"$instance", verb="POST"}[$__rate_interval])) by (verb, le))
histogram_quantile(0.99, sum(rate(rest_client_request_duration_seconds_bucket{cluster="$cluster", job="kube-proxy", instance=~"$instance", verb="GET"}[$__rate_interval])) by (verb, le))
process_resident_memory_bytes{cluster="$cluster", job="kube-proxy", instance=~"$instance"}
rate(process_cpu_seconds_total{cluster="$cluster", job="kube-proxy", instance=~"$instance"}[$__rate_interval])
go_goroutines{cluster="$cluster", job="kube-proxy", instance=~"$instance"}
"""  # noqa: E501
"""What the dashboard for kube-proxy of the kubernetes-mixin asks, which kube-prometheus installs."""

MIXIN_ALERTS = ('absent(up{job="kube-proxy"})', 'up{job="kube-proxy"} == 0')
"""Its alerts KubeProxyDown and KubeProxyInstanceUnreachable: they are to be silent."""


@pytest.fixture(scope="module")
def kproxy_args() -> tuple[str, ...]:
    return ()


@pytest.fixture(scope="module")
def prometheus(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    targets = [f"{world.lab.node.ip}:{METRICS_PORT}"]
    prometheus = Prometheus(world.lab.node, folder, targets, DEPLOY / "monitoring" / "rules.yaml")
    yield prometheus
    prometheus.process.stop()


class Busy:
    """A cluster in which something of everything happens: traffic, changes, and incidents."""

    def __init__(self, world: World, prometheus: Prometheus) -> None:
        self.world = world
        self.prometheus = prometheus
        self._pods = [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")]
        self._turns = itertools.count()
        local = {"internalTrafficPolicy": "Local"}
        self._shop = world.expose("shop", 10, self._pods, type="NodePort")
        self._empty = world.expose("empty", 11)
        self._elsewhere = world.expose("elsewhere", 12, self._pods[2:], spec=local)
        balanced = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31999}
        world.expose("balanced", 13, self._pods, type="LoadBalancer", spec=balanced)
        world.put(make_service("odd", cluster_ip="10.96.0.14", ports=[service_port(0, name="odd")]))

    def stir(self) -> None:
        """Let one more of each happen."""
        os.kill(self.world.kproxy.process.pid, signal.SIGHUP)  # which asks for a full sync
        self.world.control.call("end_watches")  # which are asked for again
        asker = self.world.lab.pod("asker")
        asker.ask_many(self._shop.ip("ipv4"), PORT, times=10)
        asker.ask(self._empty.ip("ipv4"), PORT)
        asker.ask(self._elsewhere.ip("ipv4"), PORT, timeout=SILENCE)
        # A pod goes, or comes back; the control plane says when that was.
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        for part in slices("shop", self._pods[: 2 + next(self._turns) % 2]):
            part["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": now}
            self.world.control.put(part)
        self.world.settle()

    def results(self, expression: str) -> list[float]:
        """The numbers that a query comes to, once there are any, while things go on."""

        def numbers() -> list[float]:
            self.stir()
            return [sample.value for sample in self.prometheus.query(expression) if not math.isnan(sample.value)]

        return until(numbers, 60, f"a result of {expression}")


@pytest.fixture(scope="module")
def busy(world: World, prometheus: Prometheus) -> Busy:
    return Busy(world, prometheus)


def test_it_is_scraped(busy: Busy) -> None:
    assert busy.results('up{job="kube-proxy"} == 1') == [1.0]
    until(lambda: [one["lastError"] for one in busy.prometheus.targets()] == [""], PATIENCE, "a scrape without error")


QUERIES = [
    pytest.param(query, id=f"{title}-{number}") for number, (title, query) in enumerate(dashboard_queries(DASHBOARD))
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_has_data(busy: Busy, query: str) -> None:
    assert busy.results(query)


@pytest.mark.parametrize("query", [line for line in MIXIN.splitlines() if line])
def test_the_queries_of_the_kubernetes_mixin_work_unchanged(busy: Busy, query: str) -> None:
    query = with_variables(query.replace('cluster="$cluster"', 'cluster="lab"'))
    if 'verb="POST"' in query:  # Events are all that is written, and there was one at the start: ask for a longer time
        query = query.replace("[8s]", "[10m]")
        assert busy.prometheus.wait_for(query.partition("histogram_quantile(0.99, ")[2].removesuffix(")"))
        return
    assert busy.results(query)


@pytest.mark.parametrize("expression", MIXIN_ALERTS)
def test_the_alerts_of_the_kubernetes_mixin_are_silent(busy: Busy, expression: str) -> None:
    assert busy.results("up")
    # A scrape has a second here; on a machine that is busy with other things, one may take longer.
    until(lambda: busy.prometheus.query(expression) == [], PATIENCE, "silence")


def test_connections_are_counted_by_service(busy: Busy) -> None:
    assert busy.results('increase(kproxy_service_connections_total{service="shop"}[8s]) >= 5')
    assert busy.results('kproxy_service_rejected_packets_total{service="empty"} > 0')
    assert busy.results('kproxy_service_dropped_packets_total{service="elsewhere"} > 0')


def test_the_variables_of_the_dashboard_find_something(busy: Busy) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric = with_variables(variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0])
            label = variable["query"]["query"].rpartition(", ")[2].removesuffix(")")
            assert busy.results(f"count by ({label}) ({metric})")


def test_the_rules_are_loaded_and_none_of_them_fires(busy: Busy) -> None:
    assert busy.results("up")
    (rules,) = documents(DEPLOY / "monitoring" / "rules.yaml")
    assert rules["groups"]
    firing = {name for name, state in busy.prometheus.alerts().items() if state == "firing"}
    assert firing == set()


def test_a_kproxy_that_is_gone_is_noticed(busy: Busy) -> None:
    assert busy.world.kproxy.stop() == 0
    until(lambda: busy.prometheus.alerts().get("KproxyInstanceUnreachable"), PATIENCE, "the alert")
    assert busy.prometheus.alerts()["KproxyDown"] == "pending"
    busy.world.start()
