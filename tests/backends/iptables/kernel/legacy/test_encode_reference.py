"""The encoder makes, byte for byte, what python-iptables' own objects make."""

from typing import get_args

import pytest
from hypothesis import given, settings

from kproxy.backends.iptables.kernel.legacy.encode import Encoder
from kproxy.backends.iptables.rules.ruleset import (
    GoOn,
    Match,
    Ports,
    Redirect,
    Rule,
    SourceNat,
    Strange,
    TargetTerm,
    Unjudged,
)
from kproxy.state.model import IPFamily
from tests.kit.examples import scaled
from tests.kit.iptables.iptc_recording import (
    NEWEST_THAT_WORKS,
    iptables_version,
    recording,
    reference,
    rules_it_can_build,
    without_options,
)
from tests.kit.netns import network_namespace

READ_ONLY = {Ports, Unjudged, GoOn, Redirect, SourceNat, Strange}
"""What others' rules have; kproxy writes none."""


@pytest.mark.parametrize("family", IPFamily)
def test_bytes_equal_those_recorded(family: IPFamily) -> None:
    """With any release of iptables, or none."""
    encoder = Encoder(family)
    known = [one for one in recording() if one.family is family]
    assert [encoder.encode(one.rule).hex() for one in known] == [one.entry for one in known]
    assert {type(match) for one in known for match in one.rule.matches} == {*get_args(Match)} - READ_ONLY
    assert {type(one.rule.target) for one in known} - {type(None)} == {*get_args(TargetTerm)} - READ_ONLY


@pytest.mark.kernel
@pytest.mark.parametrize("family", IPFamily)
def test_bytes_equal_those_of_python_iptables_objects(
    family: IPFamily, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whole rules where it can build them; with a later libxtables those without options of extensions."""
    whole = iptables_version() <= NEWEST_THAT_WORKS
    drawn = rules_it_can_build(family)
    encoder = Encoder(family)
    with network_namespace(tmp_path_factory.mktemp("lock")), reference(family) as ask:

        @settings(max_examples=scaled(300), deadline=None)
        @given(drawn if whole else drawn.map(without_options))
        def check(rule: Rule) -> None:
            assert encoder.encode(rule) == ask(rule)

        check()
