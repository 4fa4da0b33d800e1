"""Flags and the configuration file of ``kproxy ingress``: what they amount to, and what is said of mistakes."""

from pathlib import Path

import pytest

from kproxy.api.types import ObjectKey
from kproxy.config import ArgumentParser, BindAddress, ConfigError
from kproxy.ingress.config.flags import FLAGS, add_flags, from_flags
from kproxy.ingress.config.settings import Settings
from kproxy.ingress.plan.model import Bind

HEAD = "apiVersion: kproxy.dev/v1alpha1\nkind: IngressConfiguration\n"


def settings(*args: str) -> Settings:
    parser = ArgumentParser(prog="kproxy ingress")
    add_flags(parser)
    return from_flags(parser.parse_args(list(args)))


def problems(*args: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        settings(*args)
    return list(raised.value.problems)


def test_without_a_word() -> None:
    found = settings()
    assert found.plan.http_binds == (Bind("", 80),)
    assert found.plan.https_binds == (Bind("", 443),)
    assert found.plan.ingress_class == "kproxy"
    assert found.plan.in_cluster
    assert found.healthz == BindAddress("", 10254)
    assert found.metrics == BindAddress("127.0.0.1", 10253)
    assert found.engine.trusted == ()


def test_from_manifests_classes_are_not_needed() -> None:
    found = settings("--manifests", "/m").plan
    assert not found.in_cluster
    assert found.without_class
    assert found.gateways_without_class


@pytest.mark.parametrize(
    ("value", "binds"),
    [
        (":8080", (Bind("", 8080),)),
        ("0.0.0.0:80", (Bind("", 80),)),
        ("192.0.2.1:80,[2001:db8::1]:81", (Bind("192.0.2.1", 80), Bind("2001:db8::1", 81))),
        ("", ()),
    ],
)
def test_where_it_listens(value: str, binds: tuple[Bind, ...]) -> None:
    assert settings("--http-bind-address", value).plan.http_binds == binds


def test_what_is_told_to_whom() -> None:
    found = settings(
        "--default-certificate=infra/wildcard",
        "--service=kproxy-ingress/door",
        "--publish-address=192.0.2.1,edge.example.com",
        "--trusted-proxies=10.1.2.3/8,192.0.2.9",
        "--proxy-protocol",
        "--server-timeout=90s",
        "--threads=2",
    )
    assert found.plan.default_certificate == ObjectKey("infra", "wildcard")
    assert found.doors.engine == ObjectKey("kproxy-ingress", "door")
    assert found.publish == ("192.0.2.1", "edge.example.com")
    assert found.engine.trusted == ("10.0.0.0/8", "192.0.2.9")
    assert found.engine.proxy_protocol
    assert found.engine.server_timeout == 90_000
    assert found.engine.threads == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--http-bind-address=web:80"], "no valid IP address"),
        (["--default-certificate=wildcard"], "NAMESPACE/NAME"),
        (["--publish-address=a_b"], "neither an IP address nor a host name"),
        (["--trusted-proxies=10.0.0.0/33"], "neither a CIDR"),
        (["--state-dir=relative"], "absolute path"),
        (["--state-dir=/with space"], "absolute path"),
        (["--ingress-class=Upper"], "lower-case"),
        (["--ingress-controller=none"], "controller's name"),
        (["--server-timeout=0s"], "from 1ms"),
        (["--cpu-share=2"], "at most 1"),
        (["--threads=-1"], "from 0 to 64"),
        (["--manifests=/m", "--kubeconfig=/k"], "not from both"),
    ],
)
def test_mistakes_are_named_with_their_flag(args: list[str], words: str) -> None:
    (line,) = problems(*args)
    assert words in line
    assert any(line.startswith(flag.partition("=")[0]) for flag in args), line


def test_all_mistakes_are_told_at_once() -> None:
    assert len(problems("--state-dir=x", "--lease=x", "--node-address=x")) == 3


def test_a_file_says_the_same_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "ingress.yaml"
    file.write_text(f'{HEAD}httpBindAddress: [":81"]\ningressClass: web\nlogging: {{access: true}}\n')
    found = settings("--config", str(file), "--ingress-class", "kproxy")
    assert found.plan.http_binds == (Bind("", 81),)
    assert found.plan.ingress_class == "kproxy"
    assert found.engine.access_log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{HEAD}httpBindAdress: [':81']\n", "3: unknown field httpBindAdress; did you mean httpBindAddress"),
        (f"{HEAD}httpBindAddress: ['x']\n", "3: httpBindAddress[0]"),
        (f"{HEAD}timeouts: {{server: 5}}\n", "give it a unit"),
        ("kind: Deployment\napiVersion: apps/v1\n", "IngressConfiguration"),
        ("", "should hold one IngressConfiguration"),
        ("a: [", "ingress.yaml"),
    ],
)
def test_mistakes_in_a_file_are_named_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "ingress.yaml"
    file.write_text(text)
    (line,) = problems("--config", str(file))
    assert words in line
    assert str(file) in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (line,) = problems("--config", str(tmp_path / "none.yaml"))
    assert "No such file" in line


def test_every_flag_sets_a_field_of_its_own() -> None:
    fields = [flag.field for flag in FLAGS.values() if flag.field]
    twice = {field for field in fields if fields.count(field) > 1}
    assert twice == {"logging.format"}  # for the sake of kproxy run's two names
