"""The nftables backend and the kernel: what it writes is what the kernel holds, and nobody else's table is touched."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from hack.lab import until
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.backends.nftables.compile.compiler import Compiler, compile_plan
from kproxy.backends.nftables.kernel.applier import NftApplier
from kproxy.backends.nftables.kernel.errors import KernelRefusedError
from kproxy.backends.nftables.kernel.library import Libnftables
from kproxy.backends.nftables.kernel.presence import tables
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change
from kproxy.backends.nftables.rules.render import Renderer
from kproxy.backends.nftables.rules.ruleset import RuleSet
from kproxy.node.facts import proxy_settings
from kproxy.plan.model import Destination, Frontend, FrontendKind, Plan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName
from kproxy.tools.render import plan_objects
from tests.backends.nftables.kernel.kit import STICKY, WEB, put
from tests.flows.scenarios import Scenario, scenarios
from tests.kit.examples import scaled
from tests.kit.netns import network_namespace
from tests.kit.nft import (
    NODE,
    assert_held,
    difference,
    held,
    named,
    nft,
    plan_of,
    pods,
    rules_held,
    service,
    steps,
)
from tests.kit.paths import ROOT
from tests.kit.semantics.changes import Change as ClusterChange
from tests.kit.semantics.changes import changes

pytestmark = pytest.mark.kernel

QUICK = set(Phase) - {Phase.shrink, Phase.explain}
NEIGHBOUR = """
table ip neighbour {
	set kproxy { type ipv4_addr; elements = { 192.0.2.1 }; }
	chain kproxy { type filter hook forward priority 0; ip saddr @kproxy counter accept; }
}
table ip6 kproxy-not { chain c { type nat hook prerouting priority -101; }; }
table inet kproxy { chain c { type filter hook input priority 0; }; }
"""


# --- text ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with network_namespace(tmp_path_factory.mktemp("lock")):
        yield


def rendered(scenario: Scenario, family: IPFamily) -> tuple[RuleSet, str]:
    plan, _ = plan_objects(scenario.objects(), family, proxy_settings(scenario.config("nftables")), scenario.facts())
    ruleset = compile_plan(plan)
    return ruleset, Renderer(family).ruleset(ruleset)


@pytest.mark.usefixtures("somewhere")
@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_what_is_rendered_is_what_the_kernel_then_holds(scenario: Scenario) -> None:
    for family in IPFamily:
        ruleset, text = rendered(scenario, family)
        nft("-c", "-f", "-", text=text)
        assert held(family) == "", "nft --check changed something"
        nft("-f", "-", text=text)
        assert_held(ruleset, family)
        nft("delete", "table", Renderer(family).table)


# --- steps ---------------------------------------------------------------------------------------------------------


@settings(
    max_examples=scaled(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=QUICK
)
@given(changes=steps())
def test_step_by_step_the_kernel_holds_what_was_planned(
    backend: NftablesBackend, changes: list[Mapping[ServicePortName, ServicePlan | None]]
) -> None:
    services: dict[ServicePortName, ServicePlan] = {}
    backend.apply(Plan(node=NODE, services={}), set(), full=True)
    for change in changes:
        services |= {name: one for name, one in change.items() if one is not None}
        for name in [name for name in services if change.get(name, services[name]) is None]:
            del services[name]
        plan = Plan(node=NODE, services=dict(services))
        assert not backend.apply(plan, change.keys(), full=False).full
        assert backend._compiler is not None
        assert_held(backend._compiler.ruleset)
        assert not backend.drifted()
    backend.apply(Plan(node=NODE, services={}), services.keys(), full=False)


def test_the_first_step_compares_and_the_next_do_not(backend: NftablesBackend) -> None:
    assert backend.apply(plan_of(WEB), set(), full=False).full
    report = backend.apply(plan_of(WEB, STICKY), {STICKY.name}, full=False)
    assert not report.full
    assert 0 < report.written["kproxy"] < report.rules["kproxy"] / 2
    assert report.rules == {"kproxy": sum(map(len, compile_plan(plan_of(WEB, STICKY)).elements.values())) + _rules()}


def _rules() -> int:
    return sum(len(chain.rules) for chain in compile_plan(plan_of(WEB, STICKY)).chains.values())


def test_another_setting_of_the_node_takes_effect(backend: NftablesBackend) -> None:
    put(backend, WEB)
    plan = Plan(node=msgspec.structs.replace(NODE, masquerade_mark=1), services=plan_of(WEB).services)
    assert not backend.apply(plan, set(), full=False).full
    assert_held(compile_plan(plan))
    assert "0x00000001" in held()


def test_a_whole_table_is_loaded_in_pieces_with_its_hooks_last(backend: NftablesBackend, tmp_path: Path) -> None:
    many = [service(f"s{n}", n % 250, pods(*range(1, 100))) for n in range(60)]
    with watching(tmp_path) as transactions:
        put(backend, *many)
    assert len(transactions) > 2
    hooked = [number for number, said in enumerate(transactions) if " hook " in said]
    assert hooked == [len(transactions) - 1]
    assert "add element" not in transactions[-1]
    assert_held(compile_plan(plan_of(*many)))
    assert not backend.drifted()


def test_a_large_change_is_one_transaction_nevertheless(backend: NftablesBackend, tmp_path: Path) -> None:
    put(backend, WEB)
    many = [service(f"s{n}", n, pods(*range(1, 100))) for n in range(20, 80)]
    with watching(tmp_path) as transactions:
        put(backend, WEB, *many)
    assert len(transactions) == 1
    assert not backend.drifted()
    assert_held(compile_plan(plan_of(WEB, *many)))


@settings(
    max_examples=scaled(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=QUICK
)
@given(change=changes(family=IPFamily.IPV4))
@pytest.mark.usefixtures("backend")
def test_no_packet_comes_between_what_was_and_what_will_be(change: ClusterChange) -> None:
    """Mode iptables takes commits of two tables for it: see tests/backends/iptables/test_between_commits.py."""
    before, after = (cluster.plan() for cluster in change)
    run, scripts = Libnftables.run, []

    def recorded(library: Libnftables, script: str) -> str:
        if not script.startswith("delete chain "):  # of chains that nothing has led to for a second
            scripts.append(script)
        return run(library, script)

    # Each cluster has a node of its own, and so a backend of its own; it finds the table of the one before.
    with closing(NftablesBackend(IPFamily.IPV4)) as own, pytest.MonkeyPatch.context() as patch:
        own.apply(before, set(), full=True)
        patch.setattr(Libnftables, "run", recorded)
        assert not own.apply(after, before.services.keys() | after.services.keys(), full=False).full
    assert len(scripts) <= 1
    assert_held(compile_plan(after))


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """Collect what ``nft monitor`` says of transactions within the block, one text for each."""
    said: list[str] = []
    log = folder / "monitor.log"
    with log.open("w") as output, subprocess.Popen(["nft", "monitor"], stdout=output) as process:
        try:
            _mark(log, "begin")
            yield said
            _mark(log, "end")
        finally:
            process.terminate()
    *transactions, _ = re.split(r"# new generation .*\n", log.read_text())  # the last may not have been told to its end
    said += [one for one in transactions if "table ip begin" not in one and "table ip end" not in one and one.strip()]


def _mark(log: Path, name: str) -> None:
    """Make transactions that belong to nobody until one is told of."""

    def told() -> bool:
        nft("add", "table", "ip", name)
        nft("delete", "table", "ip", name)
        return f"delete table ip {name}\n# new" in log.read_text()

    until(told, 20, f"nft monitor to tell of table {name}")


# --- a good neighbour ----------------------------------------------------------------------------------------------


def test_tables_of_others_stay_as_they_are(backend: NftablesBackend) -> None:
    nft("-f", "-", text=NEIGHBOUR)
    before = nft("list", "ruleset")
    put(backend, WEB, STICKY)
    put(backend, STICKY)
    put(backend, WEB, full=True)
    backend.cleanup()
    assert nft("list", "ruleset") == before


def test_cleanup_removes_kube_proxys_table_as_well_and_may_be_repeated(backend: NftablesBackend) -> None:
    nft("add", "table", "ip", "kube-proxy")
    put(backend, WEB)
    assert tables(IPFamily.IPV4) == {"kproxy", "kube-proxy"}
    backend.cleanup()
    backend.cleanup()
    assert tables(IPFamily.IPV4) == set()
    assert not backend.drifted()


def test_what_others_do_elsewhere_is_no_drift(backend: NftablesBackend) -> None:
    put(backend, WEB)
    nft("-f", "-", text=NEIGHBOUR)
    nft("delete", "table", "inet", "kproxy")
    assert not backend.drifted()


# --- starts --------------------------------------------------------------------------------------------------------


def test_a_new_start_finds_the_table_and_changes_no_element(backend: NftablesBackend, tmp_path: Path) -> None:
    put(backend, WEB, STICKY)
    nft("add", "element", "ip", "kproxy", names.AFFINITY_CLIENTS, "{ 192.0.2.1 . 17 . 4 timeout 600s }")
    with watching(tmp_path) as transactions:
        again = NftablesBackend(IPFamily.IPV4)
        put(again, WEB, STICKY)
    assert len(transactions) == 1
    assert "add rule" in transactions[0]
    assert "element" not in transactions[0]
    assert "192.0.2.1" in held(), "clients with affinity are forgotten"
    assert not again.drifted()
    again.close()


def test_half_a_table_left_by_a_crash_is_replaced(backend: NftablesBackend) -> None:
    ruleset = compile_plan(plan_of(WEB))
    render = Renderer(IPFamily.IPV4)
    inner = {name: chain for name, chain in ruleset.chains.items() if not chain.hook}
    frame = Change(after=ruleset, sets_come=ruleset.sets, chains_come=inner, counters_come=ruleset.counters)
    nft("-f", "-", text="\n".join((f"add table {render.table}", *render.frame(frame), "")))
    put(backend, WEB)
    assert_held(ruleset)


@pytest.mark.parametrize("moment", [n / 10 for n in range(12)])
def test_killed_at_any_moment_it_leaves_all_or_nothing(backend: NftablesBackend, moment: float) -> None:
    """Whatever a kill leaves behind either works in full or meets no packet, and the next start makes it whole."""
    many = [service(f"s{n}", n % 250, pods(*range(1, 50))) for n in range(300)]
    plan = plan_of(*many)
    program = (
        "import pickle, sys; from kproxy.backends.nftables.backend import *;"
        "plan = pickle.load(sys.stdin.buffer); backend = NftablesBackend(IPFamily.IPV4);"
        "print('go', flush=True); backend.apply(plan, plan.services.keys(), full=False)"
    )
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, cwd=ROOT)
    assert child.stdin is not None
    child.stdin.write(pickle.dumps(plan))
    child.stdin.close()
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    time.sleep(moment)  # any moment is as good as another
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    ruleset = compile_plan(plan)
    found = difference(ruleset)  # None means that no packet meets it
    assert found is None or (found.repairable and not found.places)
    put(backend, *many)
    assert_held(ruleset)


# --- chains that are used no more ----------------------------------------------------------------------------------


def test_chains_that_are_used_no_more_are_emptied_at_once_and_removed_later(backend: NftablesBackend) -> None:
    put(backend, STICKY)
    put(backend, WEB)
    chain = "chain affinity/shop/sticky/http/tcp/cluster {"
    assert chain in held()
    assert rules_held()["affinity/shop/sticky/http/tcp/cluster"] == 0
    until(lambda: backend.drifted() or chain not in held(), 10, "the chain to be removed")
    assert not backend.drifted(), "removing it was taken for somebody else's doing"
    assert_held(compile_plan(plan_of(WEB)))


def test_a_chain_that_is_needed_again_in_time_is_not_removed(backend: NftablesBackend) -> None:
    put(backend, STICKY)
    put(backend, WEB)
    put(backend, STICKY)
    deadline = time.monotonic() + 1.5
    until(lambda: backend.drifted() or time.monotonic() > deadline, 10, "chains to be removed")
    assert_held(compile_plan(plan_of(STICKY)))


# --- frontends of UDP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affinity_seconds", [0, 60])
def test_where_udp_is_taken_in_can_be_read_back(backend: NftablesBackend, affinity_seconds: int) -> None:
    assert backend.udp_frontends() == set()
    away = (Endpoint("10.244.1.1", 53, is_remote=True),)
    external, node_port = Route(Target.DROP, short_cut=True), Frontend(FrontendKind.NODE_PORT, None, 30080)
    dns = service(
        "dns", 12, away, protocol=Protocol.UDP, more=[node_port], external=external, affinity_seconds=affinity_seconds
    )
    backend.apply(plan_of(WEB, dns), set(), full=True)
    assert backend.udp_frontends() == {Destination("10.96.0.12", 80), Destination(None, 30080)}


# --- failures ------------------------------------------------------------------------------------------------------


def test_a_failed_transaction_changes_nothing(backend: NftablesBackend) -> None:
    put(backend, WEB)
    before = held()
    applier = NftApplier(IPFamily.IPV4)
    compiler = Compiler(NODE)
    compiler.update(plan_of(WEB).services)
    bad = service("other", 12, pods(7), more=[Frontend(FrontendKind.EXTERNAL_IP, "no address", 80)])
    with pytest.raises(KernelRefusedError):
        applier.apply(compiler.update({bad.name: bad, STICKY.name: STICKY}))
    assert held() == before
    applier.close()


@pytest.mark.parametrize("full", [False, True])
def test_the_service_at_fault_is_found_and_left_out(backend: NftablesBackend, full: bool) -> None:
    put(backend, WEB)
    bad = [
        service("other", 12, pods(7), more=[Frontend(FrontendKind.EXTERNAL_IP, "no address", 80)]),
        service("s3", 13, pods(8), more=[Frontend(FrontendKind.NODE_PORT, None, 99_999)]),
    ]
    good = [service(f"s{n}", n, pods(n % 9)) for n in range(20, 30)]
    plan = plan_of(WEB, *bad, *good)
    report = backend.apply(plan, plan.services.keys(), full=full)
    assert {refused.name.name for refused in report.refused} == {"other", "s3"}
    assert all(refused.reason for refused in report.refused)
    assert difference(compile_plan(plan_of(WEB, *good))) is not None
    assert backend._compiler is not None
    assert_held(backend._compiler.ruleset)
    assert "10.96.0.29 . 80" in held()
    healed = plan_of(WEB, service("other", 12, pods(7)), *good)
    assert not backend.apply(healed, {named("other"), named("s3")}, full=False).refused
    assert_held(backend._compiler.ruleset)


def test_without_privileges_the_remedy_is_said(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        program = (
            "from kproxy.backends.nftables.backend import *; from tests.kit.nft import *;"
            "NftablesBackend(IPFamily.IPV4).apply(plan_of(), set(), full=False)"
        )
        command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    last = done.stderr.splitlines()[-1]
    assert "NET_ADMIN" in last
    assert "Error" in last.partition(":")[0]
