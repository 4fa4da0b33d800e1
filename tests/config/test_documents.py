"""A file of several documents: which are kproxy's, and what becomes of the others."""

import pytest

from kproxy.config import parse_config
from tests.config.kit import HEAD, OWN_HEAD, problems

LEFT = "left aside: kube-proxy reads a file's first document only, and kproxy that and a KproxyConfiguration"


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nclusterDNS: [10.96.0.10]", "f:4: "),
        ("apiVersion: v1\nkind: ConfigMap", "f:4: "),
        ("just words", "f:4: "),
        ("- a\n- list", "f:4: "),
        ("a: b: c", "f:4: not valid YAML, in column 5"),
    ],
)
def test_documents_of_others_are_left_aside(rest: str, line: str) -> None:
    """A kubeadm configuration has several; kube-proxy reads the first."""
    config = parse_config(f"{HEAD}---\n{rest}\n", "f")
    (warning,) = config.warnings
    assert warning.startswith(line)
    assert warning.endswith(LEFT)


def test_kproxys_own_document_is_found_among_others() -> None:
    others = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    config = parse_config(f"{HEAD}---\n{others}---\n{OWN_HEAD}cpuShare: 0.5\n", "f")
    assert config.kproxy.cpu_share == 0.5
    assert len(config.warnings) == 1


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("apiVersion: kproxy.dev/v1alpha1\nkind: KproxyConfig", "kind: must be"),
        ("apiVersion: kproxy.dev/v2\nkind: KproxyConfiguration", "apiVersion: must be kproxy.dev/v1alpha1"),
        ("apiVersion: kproxy.dev/v1alpha1\nkind: KproxyConfiguration\na: b: c", "not valid YAML"),
    ],
)
def test_a_mistake_in_kproxys_own_document_stays_one(rest: str, expected: str) -> None:
    (problem,) = problems(f"{HEAD}---\n{rest}\n")
    assert expected in problem
