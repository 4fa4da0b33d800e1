"""Every mistake in a configuration file is named, with its line, its field and a remedy."""

from pathlib import Path

import pytest

from kproxy.config import (
    ConfigError,
    read_config_file,
)
from tests.config.kit import HEAD, OWN_HEAD, problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mode: userspace", "f:3: mode: kproxy has no mode userspace; set it to iptables or nftables"),
        ("mode: kernelspace", "f:3: mode: kproxy has no mode kernelspace; set it to iptables or nftables"),
        (
            "mode: iptable",
            "f:3: mode: 'iptable' is none of iptables, nftables, auto, ipvs, kernelspace, userspace; "
            "did you mean iptables?",
        ),
        ("iptables:\n  masqueradeBit: 32", "f:4: iptables.masqueradeBit: must be from 0 to 31, not 32"),
        ("nftables:\n  masqueradeBit: -1", "f:4: nftables.masqueradeBit: must be from 0 to 31, not -1"),
        ("oomScoreAdj: 1001", "f:3: oomScoreAdj: must be from -1000 to 1000, not 1001"),
        (
            "iptables: {syncPeriod: 30}",
            "f:3: iptables.syncPeriod: must be a duration, not '30'; give it a unit, such as 30s",
        ),
        (
            "iptables: {syncPeriod: 30x}",
            "f:3: iptables.syncPeriod: '30x' is not a duration; write numbers with units, such as 30s, 1h30m or 250ms",
        ),
        ("iptables: {syncPeriod: -5s}", "f:3: iptables.syncPeriod: must be more than 0s, not -5s"),
        (
            "iptables: {minSyncPeriod: 31s}",
            "f:3: iptables.minSyncPeriod: must be no more than iptables.syncPeriod, 30s, but is 31s",
        ),
        (
            "nftables: {minSyncPeriod: -1s}",
            "f:3: nftables.minSyncPeriod: must not be negative, as -1s is",
        ),
        ("configSyncPeriod: -1s", "f:3: configSyncPeriod: must be more than 0s, not -1s"),
        (
            "conntrack: {udpTimeout: -1s}",
            "f:3: conntrack.udpTimeout: must not be negative, as -1s is; 0s leaves the kernel's setting as it is",
        ),
        ("conntrack: {maxPerCore: -1}", "f:3: conntrack.maxPerCore: must be from 0 to 2147483647, not -1"),
        (
            "clusterCIDR: 10.0.0.0",
            "f:3: clusterCIDR: '10.0.0.0' is not a CIDR; write it with its prefix length, such as 10.0.0.0/8",
        ),
        (
            "clusterCIDR: 10.0.0.0/8,fd00::/8,fd01::/16",
            "f:3: clusterCIDR: '10.0.0.0/8,fd00::/8,fd01::/16' has two ranges of one family; "
            "give one, or one of each family",
        ),
        (
            "nodePortAddresses:\n- 10.0.0.0/8\n- primary",
            "f:5: nodePortAddresses[1]: 'primary' must stand alone; remove it or the CIDRs",
        ),
        (
            "nodePortAddresses: [nope/8]",
            "f:3: nodePortAddresses[0]: 'nope/8' is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56",
        ),
        (
            "detectLocalMode: BridgeInterface",
            "f:3: detectLocalMode: BridgeInterface needs the bridge's name in detectLocal.bridgeInterface",
        ),
        (
            "detectLocalMode: InterfaceNamePrefix",
            "f:3: detectLocalMode: InterfaceNamePrefix needs detectLocal.interfaceNamePrefix",
        ),
        (
            'detectLocal: {bridgeInterface: "cni0 -j ACCEPT"}',
            "f:3: detectLocal.bridgeInterface: 'cni0 -j ACCEPT' is not the name of an interface: "
            "at most 15 characters, no blanks or slashes",
        ),
        (
            "healthzBindAddress: localhost:1",
            "f:3: healthzBindAddress: 'localhost:1' has no valid IP address; write it as 0.0.0.0:10256 or [::]:10256",
        ),
        (
            "metricsBindAddress: 0.0.0.0:99999",
            "f:3: metricsBindAddress: '0.0.0.0:99999' has no valid port; ports are 0 to 65535",
        ),
        (
            "hostnameOverride: $(NODE_NAME)",
            "f:3: hostnameOverride: '$(NODE_NAME)' can't be the name of a Node; leave it out to use the host name",
        ),
        (
            'hostnameOverride: " "',
            "f:3: hostnameOverride: ' ' can't be the name of a Node; leave it out to use the host name",
        ),
        ("bindAddress: x", "f:3: bindAddress: 'x' is not an IP address; leave it out to use the Node object's"),
        ("showHiddenMetricsForVersion: v1", "f:3: showHiddenMetricsForVersion: 'v1' is not a version such as 1.35"),
        ("hostnameOverride: 12", "f:3: hostnameOverride: must be a text, not '12'; put it in quotes"),
        ('bindAddressHardFail: "true"', "f:3: bindAddressHardFail: must be true or false, not the text 'true'"),
        ("oomScoreAdj: 1.5", "f:3: oomScoreAdj: must be a whole number, not '1.5'"),
        ("iptables: [1]", "f:3: iptables: must be a mapping of fields, not a list"),
        (
            "nodePortAddresses: 10.0.0.0/8",
            "f:3: nodePortAddresses: must be a list, not '10.0.0.0/8'; start each item with a dash",
        ),
        ("nodePortAddresses: [null]", "f:3: nodePortAddresses: has an item without a value; remove it"),
        ("featureGates: {A: yes please}", "f:3: featureGates: must be true or false, not the text 'yes please'"),
        ("mode: {a: b}", "f:3: mode: must be a single value, not a mapping"),
        ("mode: iptables\nmode: nftables", "f:4: mode: is there twice; remove one"),
    ],
)
def test_mistakes_are_named_with_line_field_and_remedy(text: str, expected: str) -> None:
    assert problems(HEAD + text) == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layot: large", "f:3: unknown field layot; did you mean layout?"),
        ("cpuShare: 0", "f:3: cpuShare: must be more than 0 and no more than 1 (a whole core), not 0"),
        ("resyncPeriod: -1s", "f:3: resyncPeriod: must not be negative, as -1s is; 0s never resyncs unasked"),
        ("watchIdleTimeout: 10ms", "f:3: watchIdleTimeout: must be 1s or more, not 10ms"),
        ("maxEndpointSeries: -1", "f:3: maxEndpointSeries: must not be negative, as -1 is; 0 shows none"),
        ("apiServers: ['10.0.0.1']", "f:3: apiServers[0]: '10.0.0.1' is not a URL such as https://10.0.0.1:6443"),
    ],
)
def test_mistakes_in_kproxys_own_document_are_errors_all(text: str, expected: str) -> None:
    assert problems(OWN_HEAD + text) == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f: is empty; it should hold a KubeProxyConfiguration or a KproxyConfiguration"),
        ("- 1", "f:1: must be a KubeProxyConfiguration or KproxyConfiguration, not a list"),
        ("kind: KubeProxyConfiguration", "f:1: apiVersion: must be kubeproxy.config.k8s.io/v1alpha1, not ''"),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfig",
            "f:1: kind: must be KubeProxyConfiguration or KproxyConfiguration, not 'KubeProxyConfig'; "
            "did you mean KubeProxyConfiguration?",
        ),
        ("apiVersion: v1\nkind: ConfigMap", "f:1: a ConfigMap; --config takes the file in it, its key config.conf"),
        (f"{HEAD}---\n{HEAD}", "f:4: a second KubeProxyConfiguration; put everything into one"),
    ],
)
def test_files_that_are_something_else(text: str, expected: str) -> None:
    assert problems(text) == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b: c", "f:1: not valid YAML, in column 5 ("),
        ("a:\n\tb: c", "f:2: not valid YAML, in column 1 ("),
        ("a: *b", "f:1: not valid YAML: *b stands for nothing"),
        ("a: \x01", "f:1: not valid YAML: not plain text ("),
        ("---\n" + "[" * 5000, "f:2: nested too deeply"),
        ("a: " + "{b: " * 200, "f:1: nested too deeply"),
    ],
    ids=["colon", "tab", "alias", "control character", "lists", "mappings"],
)
def test_files_that_are_no_yaml(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(expected)
    assert problem.isprintable()


@pytest.mark.parametrize("value", ["!!bool maybe", "!!timestamp never", "!!int many", "!own x"])
def test_tags_that_do_not_fit_are_mistakes_like_others(value: str) -> None:
    (problem,) = problems(f"{HEAD}mode: {value}\n")
    assert problem == f"f:3: mode: '{value.split()[1]}' can't be read"


def test_all_mistakes_are_reported_at_once() -> None:
    text = f"{HEAD}iptables:\n  masqueradeBit: 99\noomScoreAdj: 5000\nmode: userspace\n"
    assert [line.split(": ")[1] for line in problems(text)] == ["mode", "iptables.masqueradeBit", "oomScoreAdj"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.conf", None, "No such file or directory; check --config"),
        ("latin1.conf", b"mode: \xe4", "not UTF-8 text, at byte 6"),
        ("huge.conf", b"#" * (1 << 20) + b"\n", "larger than 1 MiB; that is no configuration file"),
    ],
)
def test_files_that_can_not_be_read(tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config_file(str(path))
    assert caught.value.problems == (f"{path}: {expected}",)


def test_messages_hold_no_control_characters() -> None:
    (line,) = problems(HEAD + 'clusterCIDR: "10.0.0.0/8\\n\\e[31mFAKE"')
    assert line.isprintable()
