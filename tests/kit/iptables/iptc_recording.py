"""Rules, and the bytes that python-iptables' own objects make of them: asked live, or recorded for where they fail.

Those objects do not survive every release of libxtables (see `NEWEST_THAT_WORKS`), so what they say is kept in
iptc_recording.jsonl. With a release that they work with, this takes it anew, as root:

    python -m tests.kit.iptables.iptc_recording
"""

import functools
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kproxy.backends.iptables.rules.ruleset import Accept, Comment, Drop, Jump, Reject, Return, Rule, TableName
from kproxy.state.model import IPFamily
from tests.kit.iptables.strategies import TARGET_CHAINS, rules
from tests.kit.netns import need, network_namespace

NEWEST_THAT_WORKS = (1, 8, 9)
"""The last release of iptables whose matches and targets python-iptables can fill in: in later ones the option table
that it reads has a field more, and each option but an extension's first fails."""
_FILE = Path(__file__).with_name("iptc_recording.jsonl")
_MANY = 200
_ALL = list(HealthCheck)


class Known(msgspec.Struct, frozen=True):
    """One rule, and its entry in hex."""

    family: IPFamily
    rule: Rule
    entry: str


def recording() -> list[Known]:
    """Return what was recorded."""
    return [msgspec.json.decode(line, type=Known) for line in _FILE.read_bytes().splitlines()]


@functools.cache
def iptables_version() -> tuple[int, ...]:
    """Return the release of iptables here."""
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
    arguments = [sys.executable, "-m", "tests.kit.iptables.iptc_reference", family]
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


def without_options(rule: Rule) -> Rule:
    """Leave of a rule what no extension has to read options for: any release of libxtables will do."""
    target = rule.target if isinstance(rule.target, Accept | Drop | Return | Jump) else None
    return msgspec.structs.replace(rule, matches=(), target=target)


def main() -> None:
    """Record."""
    if iptables_version() > NEWEST_THAT_WORKS:
        sys.exit(f"this takes iptables {'.'.join(map(str, NEWEST_THAT_WORKS))} or older, see NEWEST_THAT_WORKS")
    known = [one for family in IPFamily for one in _record(family)]
    _FILE.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in known))


def _record(family: IPFamily) -> Sequence[Known]:
    found: dict[Rule, Known] = {}
    with tempfile.TemporaryDirectory() as lock, network_namespace(Path(lock)), reference(family) as ask:

        @settings(max_examples=_MANY, deadline=None, database=None, derandomize=True, suppress_health_check=_ALL)
        @given(rules_it_can_build(family))
        @example(Rule(target=Drop()))  # which chance may leave out, as it may any
        @example(Rule(target=Reject()))
        def record(rule: Rule) -> None:
            found[rule] = Known(family, rule, ask(rule).hex())

        record()
    return list(found.values())


if __name__ == "__main__":
    main()
