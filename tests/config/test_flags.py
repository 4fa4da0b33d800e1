"""Flags have kube-proxy's names and manners, and win over the file."""

from pathlib import Path

import pytest

from kproxy.config import (
    ArgumentParser,
    BindAddress,
    Config,
    ConfigError,
    Duration,
    LogFormat,
    ProxyMode,
    add_flags,
    load,
)
from kproxy.config.flags import FLAGS, IGNORED_FLAGS
from kproxy.config.load import ROOTS, field_type
from kproxy.state.model import IPFamily

KUBE_PROXY_V1_36 = (Path(__file__).parent / "samples" / "kube-proxy-v1.36-flags.txt").read_text().split()


def test_every_flag_of_kube_proxy_is_known() -> None:
    assert set(KUBE_PROXY_V1_36) <= FLAGS.keys() | IGNORED_FLAGS.keys()
    assert not FLAGS.keys() & IGNORED_FLAGS.keys()


def test_every_flag_sets_a_field_that_exists() -> None:
    for flag in FLAGS.values():
        for path in (flag.field, *flag.also):
            assert field_type(path) is not None


def test_no_field_name_is_ambiguous() -> None:
    names = [name for root in ROOTS for name in root.__struct_encode_fields__]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("args", "read", "expected"),
    [
        (
            ["--cluster-cidr=10.0.0.0/8,fd00::/8"],
            "cluster_cidrs",
            {IPFamily.IPV4: "10.0.0.0/8", IPFamily.IPV6: "fd00::/8"},
        ),
        (["--cluster-cidr", "10.0.0.0/8"], "cluster_cidrs", {IPFamily.IPV4: "10.0.0.0/8"}),
        (["--cluster_cidr=10.0.0.0/8"], "cluster_cidrs", {IPFamily.IPV4: "10.0.0.0/8"}),
        (["--hostname-override", " Node-A "], "node_name", "node-a"),
        (["--masquerade-all"], "rules.masquerade_all", True),
        (["--masquerade-all=false"], "rules.masquerade_all", False),
        (["--masquerade-all", "--proxy-mode=nftables"], "rules.masquerade_all", True),
        (["--proxy-mode=nftables"], "mode", ProxyMode.NFTABLES),
        (["--proxy-mode="], "mode", ProxyMode.IPTABLES),
        (["--iptables-masquerade-bit=3"], "masquerade_mark", 8),
        (["--iptables-sync-period=5s", "--proxy-mode=nftables"], "rules.sync_period", 5),
        (["--iptables-sync-period=5s", "--nftables-sync-period=6s", "--proxy-mode=nftables"], "rules.sync_period", 6),
        (
            ["--nodeport-addresses=10.0.0.0/8", "--nodeport-addresses=fd00::/8"],
            "proxy.node_port_addresses",
            ("10.0.0.0/8", "fd00::/8"),
        ),
        (["--nodeport-addresses=10.0.0.0/8,fd00::/8"], "proxy.node_port_addresses", ("10.0.0.0/8", "fd00::/8")),
        (
            ["--feature-gates=WinDSR=false", "--feature-gates=AllBeta=true"],
            "proxy.feature_gates",
            {"WinDSR": False, "AllBeta": True},
        ),
        (["--oom-score-adj", "-998"], "proxy.oom_score_adj", -998),
        (["--kube-api-qps=7.5"], "proxy.client_connection.qps", 7.5),
        (["--conntrack-max-per-core=0"], "proxy.conntrack.max_per_core", 0),
        (["--conntrack-tcp-be-liberal"], "proxy.conntrack.tcp_be_liberal", True),
        (["--healthz-bind-address=10.0.0.1"], "healthz_bind", BindAddress("10.0.0.1", 10256)),
        (["--metrics-bind-address="], "metrics_bind", None),
        (["--metrics-bind-address=127.0.0.1:0"], "metrics_bind", None),
        (["--v=4"], "proxy.logging.verbosity", 4),
        (["-v", "4"], "proxy.logging.verbosity", 4),
        (["-v=4"], "proxy.logging.verbosity", 4),
        (["--log-format=json"], "proxy.logging.format", LogFormat.JSON),
        (["--logging-format=json"], "proxy.logging.format", LogFormat.JSON),
        (["--cleanup"], "options.cleanup", True),
        (["--init-only=true"], "options.init_only", True),
        (["--master=http://127.0.0.1:8080"], "options.master", "http://127.0.0.1:8080"),
        (["--manifests=d"], "options.manifests", "d"),
        (["--api-servers=https://a,https://b"], "kproxy.api_servers", ("https://a", "https://b")),
        (["--cpu-share=1"], "kproxy.cpu_share", 1.0),
        (["--endpoint-metrics=false"], "kproxy.endpoint_metrics", False),
    ],
)
def test_flags(args: list[str], read: str, expected: object) -> None:
    value: object = load(args)
    for name in read.split("."):
        value = getattr(value, name)
    assert value == expected


def test_no_flags_at_all() -> None:
    assert load([]).rules == Config().rules
    assert load([]).warnings == ()


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.conf"
    file.write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
        "clusterCIDR: 10.0.0.0/8\nmetricsBindAddress: 0.0.0.0:1\niptables: {masqueradeAll: true, syncPeriod: 7s}\n"
    )
    config = load([f"--config={file}", "--cluster-cidr=11.0.0.0/8", "--iptables-min-sync-period=2s"])
    assert config.cluster_cidrs == {IPFamily.IPV4: "11.0.0.0/8"}
    assert config.metrics_bind == BindAddress("", 1)
    assert config.rules.masquerade_all
    assert (config.rules.sync_period, config.rules.min_sync_period) == (Duration(7), Duration(2))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--healthz-bind-adress=x"], "unknown flag '--healthz-bind-adress'; did you mean --healthz-bind-address?"),
        (["--cluster"], "unknown flag '--cluster'"),
        (["--qqq"], "unknown flag '--qqq'"),
        (["foo"], "unexpected argument 'foo'"),
        (["--oom-score-adj=x"], "argument --oom-score-adj: 'x' is not a whole number"),
        (["--masquerade-all=maybe"], "argument --masquerade-all: 'maybe' is neither true nor false"),
        (["--iptables-sync-period=5"], "argument --iptables-sync-period: '5' is not a duration"),
        (["--proxy-mode=nftable"], "did you mean nftables?"),
        (["--feature-gates=X"], "argument --feature-gates: 'X' is not a feature gate such as Name=true"),
        (["--kubeconfig"], "argument --kubeconfig: "),
    ],
)
def test_a_flag_that_can_not_be_read_ends_in_one_line_and_exit_code_2(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        load(args)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["--iptables-masquerade-bit=32"],
            "--iptables-masquerade-bit: iptables.masqueradeBit: must be from 0 to 31, not 32",
        ),
        (["--master=10.0.0.1"], "--master: master: '10.0.0.1' is not a URL such as https://10.0.0.1:6443"),
        (
            ["--proxy-mode=kernelspace"],
            "--proxy-mode: mode: kproxy has no mode kernelspace; set it to iptables or nftables",
        ),
        (["--healthz-port=70000"], "--healthz-port: healthzPort: must be from 0 to 65535, not 70000"),
        (["--config=/does/not/exist"], "/does/not/exist: No such file or directory; check --config"),
    ],
)
def test_a_flag_with_an_impossible_value_is_named(args: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(args)
    assert caught.value.problems == (expected,)


@pytest.mark.parametrize(
    "args",
    [["--ipvs-scheduler=rr"], ["--logtostderr"], ["--logtostderr=true"], ["--vmodule=a=1"]],
)
def test_flags_without_effect_are_taken_and_named(args: list[str]) -> None:
    (warning,) = load(args).warnings
    assert warning.startswith(f"{args[0].partition('=')[0]}: has no effect: ")


@pytest.mark.parametrize(
    ("args", "healthz", "metrics"),
    [
        (["--healthz-port=9000"], "0.0.0.0:9000", "127.0.0.1:10249"),
        (["--metrics-port=9001", "--bind-address=::"], "[::]:10256", "[::1]:9001"),
        (["--healthz-port=0", "--metrics-port", "0"], ":0", ":0"),
        (["--healthz-port=9000", "--healthz-bind-address=10.0.0.1"], "10.0.0.1:9000", "127.0.0.1:10249"),
        (["--healthz-port=9000", "--healthz-bind-address=fd00::1"], "[fd00::1]:9000", "127.0.0.1:10249"),
        (["--healthz-port=9000", "--healthz-bind-address=10.0.0.1:1"], "10.0.0.1:1", "127.0.0.1:10249"),
        (["--healthz-port=0", "--healthz-bind-address=10.0.0.1:1"], ":0", "127.0.0.1:10249"),
        (["--metrics-port=0", "--metrics-bind-address=10.0.0.1"], "0.0.0.0:10256", ":0"),
    ],
)
def test_the_deprecated_ports_work(args: list[str], healthz: str, metrics: str) -> None:
    """As in kube-proxy v1.36 (addressFromDeprecatedFlags): 0 is no server, else it counts where no port is named."""
    config = load(args)
    assert config.proxy.healthz_bind_address == healthz
    assert config.proxy.metrics_bind_address == metrics
    assert config.healthz_bind is None if healthz == ":0" else config.healthz_bind is not None
    old = {arg.partition("=")[0] for arg in args if arg.startswith(("--healthz-port", "--metrics-port"))}
    assert len(config.warnings) == len(old)
    assert all("deprecated, as in kube-proxy; use --" in line for line in config.warnings)


def test_mode_ipvs_on_the_command_line_is_taken_as_auto() -> None:
    config = load(["--proxy-mode=ipvs", "--ipvs-scheduler=lc"])
    assert config.mode is ProxyMode.AUTO
    assert config.warnings == (
        "--proxy-mode: mode: kproxy has no mode ipvs; taken as auto",
        "--ipvs-scheduler: ipvs.scheduler: kproxy has none called 'lc'; "
        "each new connection goes to an endpoint at random",
    )


def test_flags_work_in_subcommands_with_their_nearest_names(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="kproxy")
    run = parser.add_subparsers(dest="command").add_parser("run")
    add_flags(run)
    assert parser.parse_args(["run", "--v=2"]).flags == {"v": 2}
    with pytest.raises(SystemExit):
        parser.parse_args(["run", "--kubconfig=x"])
    assert "kproxy run: unknown flag '--kubconfig'; did you mean --kubeconfig?" in capsys.readouterr().err


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(["--help"])
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in FLAGS)
