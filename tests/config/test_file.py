"""A kube-proxy ConfigMap is read as kube-proxy reads it, and every mistake in it is named."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kproxy.config import (
    BindAddress,
    Config,
    ConfigError,
    Duration,
    IPTablesVariant,
    Layout,
    ProxyMode,
    parse_config,
    read_config_file,
    to_yaml,
)
from kproxy.config.schema import KproxyConfiguration, KubeProxyConfiguration
from kproxy.plan.settings import DetectLocalMode
from kproxy.state.model import IPFamily
from tests.config.kit import HEAD, OWN_HEAD

SAMPLES = Path(__file__).parent / "samples"


def outcome(text: str) -> tuple[str, ...] | None:
    """The problems with a text, or None where it can be read; then it must survive being written and read again."""
    try:
        config = parse_config(text, "f")
    except ConfigError as error:
        return error.problems
    assert parse_config(to_yaml(config)).proxy == config.proxy
    return None


@pytest.mark.parametrize("name", ["kubeadm.conf", "kind-dual-stack.conf", "minikube.conf"])
def test_the_config_maps_of_the_installers_pass_without_a_word(name: str) -> None:
    config = read_config_file(str(SAMPLES / name))
    assert config.warnings == ()
    assert config.proxy.client_connection.kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf"
    assert config.mode is ProxyMode.IPTABLES
    assert config.proxy.detect_local_mode is DetectLocalMode.CLUSTER_CIDR
    assert config.rules.sync_period == Duration(30)
    assert config.masquerade_mark == 0x4000
    assert config.proxy.oom_score_adj == -999
    assert config.localhost_node_ports
    assert config.healthz_bind == BindAddress("", 10256)


def test_what_the_installers_do_set() -> None:
    kind = read_config_file(str(SAMPLES / "kind-dual-stack.conf"))
    assert kind.cluster_cidrs == {IPFamily.IPV4: "10.244.0.0/16", IPFamily.IPV6: "fd00:10:244::/56"}
    assert kind.proxy.conntrack.max_per_core == 0
    assert kind.rules.min_sync_period == Duration(1)
    minikube = read_config_file(str(SAMPLES / "minikube.conf"))
    assert minikube.metrics_bind == BindAddress("", 10249)
    assert minikube.proxy.conntrack.tcp_established_timeout == Duration(0)
    kubeadm = read_config_file(str(SAMPLES / "kubeadm.conf"))
    assert kubeadm.metrics_bind == BindAddress("127.0.0.1", 10249)
    assert kubeadm.proxy.conntrack.tcp_established_timeout == Duration(24 * 3600)
    assert kubeadm.rules.min_sync_period == Duration(0), "0s is no wish for kube-proxy's fixed second"


def test_a_config_made_of_nothing_is_kube_proxys_default() -> None:
    assert Config().healthz_bind == BindAddress("", 10256)
    assert Config().metrics_bind == BindAddress("127.0.0.1", 10249)
    assert parse_config(HEAD).proxy == parse_config(to_yaml(Config())).proxy


def test_json_with_tabs_is_read_too() -> None:
    text = json.dumps({**yaml.safe_load(HEAD), "mode": "nftables"}, indent="\t")
    assert parse_config(text).mode is ProxyMode.NFTABLES


def test_kproxys_own_settings_are_a_document_of_their_own() -> None:
    config = parse_config(
        f"{HEAD}mode: iptables\n---\n{OWN_HEAD}"
        "iptablesVariant: nft\nlayout: large\ncpuShare: 0.5\nendpointMetrics: false\napiServers: [https://10.0.0.1:6443]\n"
    )
    assert config.kproxy.iptables_variant is IPTablesVariant.NFT
    assert config.kproxy.layout is Layout.LARGE
    assert config.kproxy.cpu_share == 0.5
    assert not config.kproxy.endpoint_metrics
    assert config.kproxy.api_servers == ("https://10.0.0.1:6443",)
    assert parse_config(OWN_HEAD).proxy == parse_config(HEAD).proxy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "iptables:\n  masqeradeAll: true",
            "f:4: unknown field iptables.masqeradeAll; did you mean masqueradeAll? (ignored)",
        ),
        ("clusterCidr: 10.0.0.0/8", "f:3: unknown field clusterCidr; did you mean clusterCIDR? (ignored)"),
        ("zzz: 1", "f:3: unknown field zzz (ignored)"),
        ("ipvs:\n  scheduler: wrr", "f:4: ipvs.scheduler: has no effect: kproxy has no mode ipvs"),
        ("ipvs:\n  strictARP: true", "f:4: ipvs.strictARP: has no effect: kproxy has no mode ipvs"),
        ("winkernel:\n  enableDSR: true", "f:4: winkernel.enableDSR: has no effect: kproxy does not run on Windows"),
        ("enableProfiling: true", "f:3: enableProfiling: has no effect: kproxy has no /debug/pprof"),
        ("portRange: 1-2", "f:3: portRange: has no effect: it has none in kube-proxy, either"),
        ("configSyncPeriod: 1m", "f:3: configSyncPeriod: has no effect: see resyncPeriod"),
        (
            "featureGates:\n  NFTablesProxyMod: true",
            "f:4: featureGates.NFTablesProxyMod: has no effect: kproxy knows no such feature; "
            "did you mean NFTablesProxyMode?",
        ),
        (
            "featureGates: {LoadBalancerIPMode: false}",
            "f:3: featureGates.LoadBalancerIPMode: has no effect: in kproxy this is always on",
        ),
        (
            "logging:\n  vmodule: [{filePattern: x, verbosity: 3}]",
            "f:4: logging.vmodule: has no effect: kproxy has one log level for all its parts",
        ),
        (
            "iptables: {snatNodeInternalIP: true}",
            "f:3: iptables.snatNodeInternalIP: has no effect: kproxy masquerades by interface",
        ),
    ],
)
def test_settings_without_effect_are_named(text: str, expected: str) -> None:
    assert parse_config(HEAD + text, "f").warnings == (expected,)


def test_feature_gates_that_say_what_kproxy_does_anyway_pass() -> None:
    assert parse_config(f"{HEAD}featureGates: {{NFTablesProxyMode: true, WinDSR: false, AllBeta: true}}").warnings == ()


def test_written_configuration_reads_back_the_same() -> None:
    for name in ("kubeadm.conf", "kind-dual-stack.conf", "minikube.conf"):
        config = read_config_file(str(SAMPLES / name))
        assert parse_config(to_yaml(config)) == config


def test_written_configuration_is_one_kube_proxy_reads() -> None:
    first, second = yaml.safe_load_all(to_yaml(parse_config(HEAD + "iptables: {syncPeriod: 1m}")))
    assert first["kind"] == "KubeProxyConfiguration"
    assert first["iptables"] == {
        "localhostNodePorts": True,
        "masqueradeAll": False,
        "masqueradeBit": 14,
        "minSyncPeriod": "0s",
        "syncPeriod": "1m0s",
    }
    assert first["healthzBindAddress"] == "0.0.0.0:10256"
    assert second["kind"] == "KproxyConfiguration"
    json.dumps([first, second])


@given(st.text(max_size=200))
def test_no_text_makes_it_stumble(text: str) -> None:
    lines = outcome(text)
    assert lines is None or (lines and all(line.startswith("f") for line in lines))


FIELDS = sorted(
    {name for struct in (KubeProxyConfiguration, KproxyConfiguration) for name in struct.__struct_encode_fields__}
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["0s", "1m", "10.0.0.0/8"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from([HEAD, OWN_HEAD]), st.dictionaries(st.sampled_from(FIELDS), PLAIN, max_size=4))
def test_no_value_of_any_field_makes_it_stumble(head: str, values: dict[str, object]) -> None:
    text = head + yaml.safe_dump(values) if values else head
    lines = outcome(text)
    assert lines is None or all(line.isprintable() for line in lines)
