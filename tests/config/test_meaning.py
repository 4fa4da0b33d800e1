"""What settings come to, where one depends on another: modes, families, kube-proxy's words for what kproxy has."""

import pytest
import yaml

from kproxy.config import Duration, LogFormat, ProxyMode, parse_config
from kproxy.state.model import IPFamily
from tests.config.kit import HEAD, OWN_HEAD


@pytest.mark.parametrize(
    ("addresses", "mode", "primary", "v4", "v6"),
    [
        ((), "iptables", False, (), ()),
        ((), "nftables", True, (), ()),
        (("primary",), "iptables", True, (), ()),
        (("10.0.0.7/24", "fd00::/8"), "iptables", False, ("10.0.0.0/24",), ("fd00::/8",)),
        (("10.0.0.0/24",), "nftables", False, ("10.0.0.0/24",), ()),
    ],
)
def test_node_port_addresses(
    addresses: tuple[str, ...], mode: str, primary: bool, v4: tuple[str, ...], v6: tuple[str, ...]
) -> None:
    config = parse_config(HEAD + yaml.safe_dump({"mode": mode, "nodePortAddresses": list(addresses)}))
    assert config.node_ports_on_primary is primary
    assert config.node_port_cidrs(IPFamily.IPV4) == v4
    assert config.node_port_cidrs(IPFamily.IPV6) == v6


def test_each_mode_has_its_own_section() -> None:
    config = parse_config(
        f"{HEAD}mode: auto\niptables: {{masqueradeBit: 10}}\nnftables: {{masqueradeBit: 11, syncPeriod: 7s}}"
    )
    assert config.masquerade_mark == 1 << 10
    chosen = config.with_mode(ProxyMode.NFTABLES)
    assert (chosen.masquerade_mark, chosen.rules.sync_period) == (1 << 11, Duration(7))
    assert not chosen.localhost_node_ports


@pytest.mark.parametrize(
    ("bind", "healthz", "metrics"),
    [("10.0.0.1", "[::]:10256", "127.0.0.1:10249"), ("'fd00::1'", "[::]:10256", "[::1]:10249")],
)
def test_default_addresses_follow_the_family_of_the_bind_address(bind: str, healthz: str, metrics: str) -> None:
    config = parse_config(f"{HEAD}bindAddress: {bind}")
    assert (str(config.healthz_bind), str(config.metrics_bind)) == (healthz, metrics)


def test_logging() -> None:
    config = parse_config(f"{HEAD}logging: {{format: json, verbosity: 4, flushFrequency: 5000000000}}")
    assert config.proxy.logging.format is LogFormat.JSON
    assert config.proxy.logging.verbosity == 4
    assert config.warnings == ()


@pytest.mark.parametrize("scheduler", ["", "rr", "wrr", "lc", "sh"])
def test_mode_ipvs_is_taken_as_auto_and_its_scheduler_for_the_nearest(scheduler: str) -> None:
    """kubespray's default until lately."""
    text = f"{HEAD}mode: ipvs\nipvs:\n  scheduler: '{scheduler}'\n"
    config = parse_config(text, "f")
    assert config.mode is ProxyMode.AUTO
    assert config.warnings[0] == "f:3: mode: kproxy has no mode ipvs; taken as auto"
    told = [line for line in config.warnings if "ipvs.scheduler" in line]
    if scheduler in ("", "rr"):
        assert config.kproxy.load_balancing == "round-robin"
        assert told == []
    else:
        assert config.kproxy.load_balancing == "random"
        assert f"kproxy has none called '{scheduler}'; each new connection goes to an endpoint at random" in told[0]


def test_what_is_said_of_load_balancing_wins_over_ipvs() -> None:
    config = parse_config(f"{HEAD}mode: ipvs\n---\n{OWN_HEAD}loadBalancing: random\n", "f")
    assert config.kproxy.load_balancing == "random"
