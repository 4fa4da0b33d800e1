"""The encoder makes, byte for byte, what python-iptables' own objects make."""

import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.backends.iptables.kernel.legacy.encode import Encoder
from kproxy.backends.iptables.rules.ruleset import Comment, Rule, TableName
from kproxy.state.model import IPFamily
from tests.kit.examples import scaled
from tests.kit.netns import need, network_namespace
from tests.kit.rule_strategies import TARGET_CHAINS, rules

NEWEST_THAT_WORKS = (1, 8, 9)


@functools.cache
def iptables_version() -> tuple[int, ...]:
    need("iptables-legacy")
    output = subprocess.run(["iptables-legacy", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", output)
    assert found, output
    return tuple(int(part) for part in found.groups())


@contextmanager
def reference(family: IPFamily) -> Iterator[Callable[[Rule], bytes]]:
    """Start the reference in the current network namespace, where the chains must exist that rules jump to."""
    command = "iptables-legacy" if family is IPFamily.IPV4 else "ip6tables-legacy"
    for chain in TARGET_CHAINS:
        subprocess.run([command, "-N", chain], check=True)
    arguments = [sys.executable, "-m", "tests.kit.iptc_reference", family]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def ask(rule: Rule) -> bytes:
            stdin.write(msgspec.json.encode(rule) + b"\n")
            stdin.flush()
            return bytes.fromhex(stdout.readline().decode())

        yield ask
        stdin.close()


@st.composite
def rules_it_can_build(draw: st.DrawFn, family: IPFamily) -> Rule:
    """Rules without what python-iptables gets wrong; the tests of the listing have those too.

    It writes IPv6 interface masks as 1s instead of 255s, drops the + of a wildcard where iptables keeps it, and takes
    a comment's leading ! for an inversion.
    """
    rule = draw(rules(family, draw(st.sampled_from(TableName)), wildcards=False))
    matches = tuple(match for match in rule.matches if not (isinstance(match, Comment) and match.text.startswith("!")))
    in_interface = rule.in_interface if family is IPFamily.IPV4 else None
    return msgspec.structs.replace(rule, in_interface=in_interface, matches=matches)


@pytest.mark.kernel
@pytest.mark.parametrize("family", IPFamily)
def test_bytes_equal_those_of_python_iptables_objects(
    family: IPFamily, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if iptables_version() > NEWEST_THAT_WORKS:
        pytest.skip(
            f"iptables {iptables_version()}: python-iptables' Match and Target objects are only known to work with "
            f"libxtables up to {NEWEST_THAT_WORKS}; later ones changed the option table that they read"
        )
    encoder = Encoder(family)
    with network_namespace(tmp_path_factory.mktemp("lock")), reference(family) as ask:

        @settings(max_examples=scaled(300), deadline=None)
        @given(rules_it_can_build(family))
        def check(rule: Rule) -> None:
            assert encoder.encode(rule) == ask(rule)

        check()
