"""The scripts under deploy/: what they call, in which order, and that they leave a cluster whole when something fails.

The tools they call are stand-ins that answer as the test says, and note down what they were asked.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from kproxy.config import Layout, ProxyMode, load
from tests.kit.deploy.manifests import DEPLOY, documents, find, render, typed
from tests.kit.paths import TESTS

TAKE_OVER = DEPLOY / "overlays" / "kubeadm" / "take-over.sh"
GIVE_BACK = DEPLOY / "overlays" / "kubeadm" / "give-back.sh"
UP = DEPLOY / "overlays" / "kind" / "up.sh"
KUBEADM_CONF = (TESTS / "config" / "samples" / "kubeadm.conf").read_text()

STAND_IN = f"""#!{shutil.which("bash")}
line="${{0##*/}} $*" folder=${{0%/*}}
printf '%s\\n' "$line" >>"$folder/calls"
if [ "${{!#}}" = - ]; then
    IFS= read -rd '' objects
    printf %s "$objects" >"$folder/applied"
fi
answer() {{ [[ ! $line =~ $1 ]] || {{ printf %s "$2"; exit "$3"; }}; }}
. "$folder/answers"
"""
"""In bash, as Python takes several times as long to start, and is started for each call."""

BASICS = ("bash", "dirname", "grep", "mktemp", "rm", "sed", "seq", "sleep")
"""What the scripts need besides; nothing else is to be found, whatever the machine has."""


class Ran(NamedTuple):
    """What came of a run."""

    code: int
    output: str
    calls: list[str]

    def matching(self, pattern: str) -> list[str]:
        return [call for call in self.calls if re.search(pattern, call)]


Answer = tuple[str, str, int]
"""An extended regular expression that is found in the call, what is printed then, and the exit code."""


def run(script: Path, tmp_path: Path, *args: str, answers: list[Answer], tools: tuple[str, ...] = ("kubectl",)) -> Ran:
    for tool in tools:
        path = tmp_path / tool
        path.write_text(STAND_IN)
        path.chmod(0o755)
    for tool in BASICS:
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    (tmp_path / "answers").write_text("".join(f"answer {shlex.join(map(str, answer))}\n" for answer in answers))
    (tmp_path / "calls").touch()
    done = subprocess.run(
        [str(tmp_path / "bash"), str(script), *args],
        capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    return Ran(done.returncode, done.stdout + done.stderr, (tmp_path / "calls").read_text().splitlines())


CLUSTER: list[Answer] = [
    (r"get configmap kube-proxy .*\{\.data\.config", KUBEADM_CONF, 0),
    (r"get configmap kube-proxy .*\{\.data\.kubeconfig", "apiVersion: v1", 0),
    (r"get nodes", "node-a\nnode-b\n", 0),
    (r"get pods .*spec\.nodeName=node-a", "pod/proxy-a\n", 0),
    (r"get pods .*spec\.nodeName=node-b", "pod/proxy-b\n", 0),
]


@pytest.mark.parametrize("script", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid_and_can_be_run(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


# take-over.sh


def test_kproxy_takes_one_node_after_the_other(tmp_path: Path) -> None:
    ran = run(TAKE_OVER, tmp_path, answers=CLUSTER)
    assert ran.code == 0, ran.output
    steps = ran.matching("apply|patch|label node| wait ")
    assert [re.sub(r"^kubectl (--namespace kube-system )?| --timeout=.*", "", step) for step in steps] == [
        "apply --kustomize .",
        "patch daemonset kube-proxy --patch-file kube-proxy-elsewhere.yaml",
        "label node node-a kproxy.dev/proxy=kproxy --overwrite",
        "wait --for=condition=Ready pod/proxy-a",
        "label node node-b kproxy.dev/proxy=kproxy --overwrite",
        "wait --for=condition=Ready pod/proxy-b",
    ]


def test_kproxy_takes_only_the_nodes_that_are_named(tmp_path: Path) -> None:
    ran = run(TAKE_OVER, tmp_path, "node-b", answers=CLUSTER)
    assert ran.code == 0, ran.output
    assert ran.matching("label") == ["kubectl label node node-b kproxy.dev/proxy=kproxy --overwrite"]


def test_a_node_on_which_kproxy_does_not_get_ready_goes_back_and_the_others_are_left_alone(tmp_path: Path) -> None:
    never: list[Answer] = [(r" wait .*pod/proxy-a", "", 1), (r" logs ", "what it said\n", 0)]
    ran = run(TAKE_OVER, tmp_path, answers=never + CLUSTER)
    assert ran.code == 1
    assert "what it said" in ran.output
    assert "the node is kube-proxy's again" in ran.output
    assert ran.matching("label")[-1] == "kubectl label node node-a kproxy.dev/proxy-"
    assert not ran.matching("label node node-b")


REFUSALS: list[tuple[str, list[Answer], str]] = [
    ("no kube-proxy", [(r"get daemonset kube-proxy", "", 1)], "there is no DaemonSet kube-proxy"),
    ("no kubeconfig", [(r"\.data\.kubeconfig", "", 0)], "has no kubeconfig.conf"),
    ("mode ipvs", [(r"\.data\.config", KUBEADM_CONF.replace('mode: ""', "mode: ipvs"), 0)], "et mode to iptables"),
    (
        "mode nftables",
        [(r"\.data\.config", KUBEADM_CONF.replace('mode: ""', 'mode: "nftables"'), 0)],
        "et mode to iptables",
    ),
]


@pytest.mark.parametrize(("answers", "said"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_where_kproxy_cannot_take_over_nothing_is_touched(tmp_path: Path, answers: list[Answer], said: str) -> None:
    ran = run(TAKE_OVER, tmp_path, answers=answers + CLUSTER)
    assert ran.code == 1
    assert said in ran.output
    assert not ran.matching("apply|patch|label")


def test_kube_proxy_stays_away_from_just_the_nodes_that_kproxy_wants() -> None:
    (patch,) = documents(TAKE_OVER.parent / "kube-proxy-elsewhere.yaml")
    pod = find(render(TAKE_OVER.parent), "DaemonSet")["spec"]["template"]["spec"]
    patched = find(render(TAKE_OVER.parent), "DaemonSet")
    patched["spec"]["template"]["spec"] |= patch["spec"]["template"]["spec"]
    affinity = typed(patched).spec.template.spec.affinity
    (term,) = affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    (expression,) = term.match_expressions
    assert expression.operator == "NotIn"
    assert pod["nodeSelector"][expression.key] in expression.values


# give-back.sh


def test_kube_proxy_gets_one_node_after_the_other_once_kproxys_rules_are_as_it_knows_them(tmp_path: Path) -> None:
    ran = run(GIVE_BACK, tmp_path, answers=CLUSTER)
    assert ran.code == 0, ran.output
    steps = [
        re.sub(r"^kubectl (--namespace kube-system )?| --timeout=.*", "", step)
        for step in ran.matching("patch|rollout|label node|(?<!--) wait |delete")
    ]
    patches, steps = steps[:2], steps[2:]
    added = [step["value"] for patch in patches for step in json.loads(patch.partition("--patch=")[2])]
    config = load(added)
    assert (config.kproxy.layout, config.mode) == (Layout.CLASSIC, ProxyMode.IPTABLES)
    assert steps[:-1] == [
        "rollout status daemonset/kproxy",
        "label node node-a kproxy.dev/proxy-",
        "wait --for=condition=Ready pod/proxy-a",
        "label node node-b kproxy.dev/proxy-",
        "wait --for=condition=Ready pod/proxy-b",
        "delete --kustomize . --ignore-not-found",
    ]
    assert steps[-1].startswith("patch daemonset kube-proxy ")


def test_giving_back_one_node_keeps_kproxy_on_the_others(tmp_path: Path) -> None:
    ran = run(GIVE_BACK, tmp_path, "node-a", answers=CLUSTER)
    assert ran.code == 0, ran.output
    assert not ran.matching("delete|patch daemonset kube-proxy")


def test_nothing_is_given_back_to_a_kube_proxy_that_is_not_there(tmp_path: Path) -> None:
    ran = run(GIVE_BACK, tmp_path, answers=[(r"get daemonset kube-proxy", "", 1), *CLUSTER])
    assert ran.code == 1
    assert not ran.matching("patch|label|delete")


# up.sh


def kind_answers() -> list[Answer]:
    manifests = "env:\n- name: KUBERNETES_SERVICE_HOST\n  value: kind-control-plane\n"
    return [(r"kind get clusters", "other\n", 0), (r"get daemonset kube-proxy", "", 1), (r"kustomize", manifests, 0)]


def test_a_kind_cluster_is_built_from_the_checkout(tmp_path: Path) -> None:
    ran = run(UP, tmp_path, answers=kind_answers(), tools=("docker", "kind", "kubectl"))
    assert ran.code == 0, ran.output
    steps = [call for call in ran.calls if not re.search(r" get ", call)]
    (image,) = {c["image"] for c in find(render(UP.parent), "DaemonSet")["spec"]["template"]["spec"]["containers"]}
    assert steps[:3] == [
        f"docker build --tag {image} {DEPLOY.parent}",
        f"kind create cluster --name kind --config {UP.parent}/cluster.yaml",
        f"kind load docker-image {image} --name kind",
    ]
    assert "rollout status daemonset/kproxy" in steps[-2]
    assert "wait --for=condition=Ready nodes --all" in steps[-1]
    (cluster,) = documents(UP.parent / "cluster.yaml")
    assert cluster["networking"]["kubeProxyMode"] == "none"


def test_the_api_server_of_a_kind_cluster_is_named_after_the_cluster(tmp_path: Path) -> None:
    objects = (UP.parent / "kustomization.yaml").read_text()  # where the name stands as it will in the objects
    answers = [(r"kubectl kustomize", objects, 0), *kind_answers()]
    ran = run(UP, tmp_path, "demo", answers=answers, tools=("docker", "kind", "kubectl"))
    assert ran.code == 0, ran.output
    applied = (tmp_path / "applied").read_text()
    assert "value: demo-control-plane\n" in applied
    assert "value: kind-control-plane" not in applied
    assert all("--context kind-demo" in call for call in ran.matching("^kubectl (?!kustomize)"))


def test_a_cluster_with_kube_proxy_is_left_alone(tmp_path: Path) -> None:
    answers = [one for one in kind_answers() if "daemonset" not in one[0]]
    ran = run(UP, tmp_path, answers=answers, tools=("docker", "kind", "kubectl"))
    assert ran.code == 1
    assert "take-over.sh" in ran.output
    assert not ran.matching("load|apply")


@pytest.mark.parametrize(("missing", "named"), [("kind", "kind"), ("kubectl", "kubectl"), ("docker", "podman")])
def test_what_is_missing_is_named(tmp_path: Path, missing: str, named: str) -> None:
    tools = tuple(tool for tool in ("docker", "kind", "kubectl") if tool != missing)
    ran = run(UP, tmp_path, answers=kind_answers(), tools=tools)
    assert ran.code == 1
    assert f"{named} is needed" in ran.output
    assert not ran.calls
