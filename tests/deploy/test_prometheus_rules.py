"""The alert rules and the dashboard by themselves: valid, tested, and of metrics that kproxy has."""

import json
import re
import subprocess
from collections.abc import Iterable

import pytest

from kproxy.config import ProxyMode
from tests.kit.deploy.manifests import DEPLOY, documents
from tests.kit.deploy.prometheus import dashboard_queries, with_variables
from tests.kit.netns import need
from tests.report.metrics.kit import busy

MONITORING = DEPLOY / "monitoring"
(RULES,) = documents(MONITORING / "rules.yaml")
(RULES_TEST,) = documents(MONITORING / "rules_test.yaml")
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]


def promtool(*arguments: str) -> None:
    need("promtool")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=MONITORING, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


def test_the_rules_do_what_their_tests_say() -> None:
    promtool("test", "rules", "rules_test.yaml")


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_each_alert_is_seen_firing_and_silent(alert: str) -> None:
    expected = [
        bool(one["exp_alerts"]) for test in RULES_TEST["tests"] for one in test["alert_rule_test"]
        if one["alertname"] == alert
    ]  # fmt: skip
    assert set(expected) == {True, False}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}


def series() -> set[str]:
    """The names of all series that kproxy has, in either mode, and what Prometheus adds."""
    names = {"up"}
    for mode in (ProxyMode.IPTABLES, ProxyMode.NFTABLES):
        for line in busy(mode).exposition().decode().splitlines():
            if line and not line.startswith("#"):
                names.add(re.split(r"[{ ]", line)[0])
    return names


def metric_names(expressions: Iterable[str]) -> set[str]:
    pattern = r"\b(?:up\b|(?:kubeproxy|kproxy|rest_client|process|go)_\w+)"
    return {name for text in expressions for name in re.findall(pattern, re.sub(r'"[^"]*"', "", text))}


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    asked = metric_names([rule["expr"] for rule in ALERTS] + [query for _, query in dashboard_queries(DASHBOARD)])
    assert len(asked) > 30
    assert asked - series() == set()


def test_the_dashboard_is_laid_out_without_overlaps() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_every_variable_of_the_dashboard_is_one_that_it_has() -> None:
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"]))) <= known
    assert "$" not in "".join(with_variables(query) for _, query in dashboard_queries(DASHBOARD))
