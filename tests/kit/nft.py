"""Plans and namespaces for the tests of the nftables backend."""

import functools
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.backends.nftables.kernel.applier import NftApplier
from kproxy.backends.nftables.kernel.netlink import GET_ELEMENT, Message, Reader
from kproxy.backends.nftables.kernel.reconcile import Differences, compare
from kproxy.backends.nftables.kernel.table import KernelTable
from kproxy.backends.nftables.rules.change import Change
from kproxy.backends.nftables.rules.render import FAMILIES
from kproxy.backends.nftables.rules.ruleset import Data, Key, RuleSet
from kproxy.plan.model import (
    Frontend,
    FrontendKind,
    LocalTraffic,
    Masquerade,
    NodePlan,
    Plan,
    Route,
    ServicePlan,
    Target,
)
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName
from tests.kit.netns import need, network_namespace

NODE = NodePlan(family=IPFamily.IPV4, local_traffic=LocalTraffic(cidr="10.244.0.0/16"), node_port_ips=("10.0.0.1",))


def named(name: str, protocol: Protocol = Protocol.TCP) -> ServicePortName:
    return ServicePortName("shop", name, "http", protocol)


def pods(*hosts: int, port: int = 8080, **more: Any) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"10.244.0.{host}", port, is_local=True, **more) for host in hosts)


def service(
    name: str,
    number: int,
    endpoints: Iterable[Endpoint] = (),
    *,
    protocol: Protocol = Protocol.TCP,
    more: Iterable[Frontend] = (),
    external: Route | None = None,
    **plan: Any,
) -> ServicePlan:
    """A service at 10.96.0.NUMBER:80 with policy Cluster, and further frontends."""
    endpoints = tuple(endpoints)
    to = Target.CLUSTER if endpoints else Target.REJECT
    outside = external or Route(to, Masquerade.ALWAYS if endpoints else Masquerade.NEVER)
    return ServicePlan(
        name=named(name, protocol),
        frontends=(Frontend(FrontendKind.CLUSTER_IP, f"10.96.0.{number}", 80), *more),
        internal=Route(to, Masquerade.OFF_CLUSTER if endpoints else Masquerade.NEVER),
        external=outside if tuple(more) else None,
        cluster_endpoints=endpoints,
        **plan,
    )


def plan_of(*services: ServicePlan, node: NodePlan = NODE) -> Plan:
    return Plan(node=node, services={one.name: one for one in services})


# --- random plans --------------------------------------------------------------------------------------------------

_EXTERNAL_IPS = ("203.0.113.1", "203.0.113.2")
_FRONTENDS = st.lists(
    st.one_of(
        st.builds(Frontend, st.just(FrontendKind.EXTERNAL_IP), st.sampled_from(_EXTERNAL_IPS), st.just(80)),
        st.builds(
            Frontend,
            st.just(FrontendKind.LOAD_BALANCER),
            st.sampled_from(["203.0.113.2", "203.0.113.3"]),
            st.just(80),
            st.sampled_from([(), ("192.0.2.0/24",), ("192.0.2.0/24", "192.0.2.0/25", "10.0.0.0/8")]),
        ),
        st.builds(Frontend, st.just(FrontendKind.NODE_PORT), st.none(), st.sampled_from([30080, 30081])),
    ),
    max_size=3,
    unique_by=lambda frontend: (frontend.ip, frontend.port),
)  # fmt: skip


_PROTOCOLS = st.sampled_from([Protocol.TCP, Protocol.TCP, Protocol.UDP])
_LOCAL_HOSTS = st.lists(st.integers(1, 9), max_size=6, unique=True)
_HOSTS_ELSEWHERE = st.lists(st.integers(1, 9), max_size=12, unique=True)
_MASQUERADES = st.sampled_from(Masquerade)
_AFFINITIES = st.sampled_from([0, 0, 0, 600])
_EITHER = st.booleans()


@st.composite
def service_plans(draw: st.DrawFn, name: str, number: int) -> ServicePlan:
    """Any plan there can be of a service, some of whose addresses others may claim, too."""
    protocol = draw(_PROTOCOLS)
    local = pods(*draw(_LOCAL_HOSTS))
    elsewhere = draw(_HOSTS_ELSEWHERE)
    remote = tuple(Endpoint(f"10.244.1.{host}", 8080, is_remote=True) for host in elsewhere)
    cluster = (*local, *remote)
    more = tuple(draw(_FRONTENDS))
    if not cluster:
        return service(name, number, protocol=protocol, more=more)
    internal = _LOCAL if draw(_EITHER) else Route(Target.CLUSTER, draw(_MASQUERADES))
    external = Route(Target.CLUSTER, Masquerade.ALWAYS)
    if draw(_EITHER):
        external = Route(Target.LOCAL if local else Target.DROP, short_cut=True)
    return ServicePlan(
        name=named(name, protocol),
        frontends=(Frontend(FrontendKind.CLUSTER_IP, f"10.96.0.{number}", 80), *more),
        internal=internal if local or internal.to is Target.CLUSTER else Route(Target.DROP),
        external=external if more else None,
        cluster_endpoints=cluster,
        local_endpoints=local,
        affinity_seconds=draw(_AFFINITIES),
    )


_LOCAL = Route(Target.LOCAL, Masquerade.OFF_CLUSTER)
NAMES = tuple("abcde")


@functools.cache
def any_service(name: str) -> st.SearchStrategy[ServicePlan]:
    """Any plan of a service of that name; two neighbours in the alphabet share a ClusterIP."""
    return service_plans(name, 10 + NAMES.index(name) // 2)


def steps() -> st.SearchStrategy[list[Mapping[ServicePortName, ServicePlan | None]]]:
    """Changes of a few services each, some of which come and go."""
    pairs = {name: st.tuples(st.just(name), st.none() | any_service(name)) for name in NAMES}
    one = st.sampled_from(NAMES).flatmap(lambda name: pairs[name])
    step = st.lists(one, min_size=1, max_size=3, unique_by=lambda pair: pair[0])
    return st.lists(step.map(_step), min_size=1, max_size=8)


def _step(pairs: Iterable[tuple[str, ServicePlan | None]]) -> dict[ServicePortName, ServicePlan | None]:
    """A service that changes its protocol is another service."""
    step: dict[ServicePortName, ServicePlan | None] = {}
    for name, plan in pairs:
        step |= {named(name, protocol): None for protocol in (Protocol.TCP, Protocol.UDP)}
        if plan is not None:
            step[plan.name] = plan
    return step


# --- values --------------------------------------------------------------------------------------------------------


def copy(ruleset: RuleSet) -> RuleSet:
    """A value of its own: a compiler's ruleset is a live view."""
    return RuleSet(
        dict(ruleset.sets),
        {name: dict(elements) for name, elements in ruleset.elements.items()},
        frozenset(ruleset.counters),
        dict(ruleset.chains),
    )


def carry_out(ruleset: RuleSet, change: Change) -> RuleSet:
    """Do to a ruleset what a change says, as strictly as the kernel."""
    sets, counters, chains = dict(ruleset.sets), set(ruleset.counters), dict(ruleset.chains)
    elements: dict[str, dict[Key, Data]] = {name: dict(held) for name, held in ruleset.elements.items()}
    assert not counters & change.counters_come
    counters |= change.counters_come
    assert not sets.keys() & change.sets_come.keys()
    sets |= change.sets_come
    for chain in change.chains_gone:
        del chains[chain]
    chains |= change.chains_come
    for name, gone in change.elements_gone.items():
        for key, data in gone.items():
            assert elements[name].pop(key) == data
    for name, come in change.elements_come.items():
        assert name in sets, f"elements for {name}, which is not there"
        for key, data in come.items():
            assert key not in elements.setdefault(name, {}), f"{name}: {key} is there already"
            elements[name][key] = data
    for name in change.sets_gone:
        del sets[name]
        elements.pop(name, None)
    counters -= change.counters_gone
    return RuleSet(sets, {name: held for name, held in elements.items() if held}, frozenset(counters), chains)


# --- the kernel ----------------------------------------------------------------------------------------------------


@contextmanager
def table_in_namespace(
    folder: Path, family: IPFamily = IPFamily.IPV4, *, count_endpoints: bool = True
) -> Iterator[NftablesBackend]:
    """A backend in a network namespace of its own, which the calling thread is in meanwhile."""
    need("nft")
    with network_namespace(folder):
        backend = NftablesBackend(family, count_endpoints=count_endpoints)
        try:
            yield backend
        finally:
            backend.close()


def nft(*command: str, text: str | None = None, check: bool = True) -> str:
    """Run the nft program; return what it prints."""
    done = subprocess.run(["nft", *command], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout


def held(family: IPFamily = IPFamily.IPV4) -> str:
    """kproxy's table as nft lists it, without counters; empty if there is none."""
    return nft("-s", "list", "table", FAMILIES[family], "kproxy", check=False)


def difference(ruleset: RuleSet, family: IPFamily = IPFamily.IPV4) -> Differences | None:
    """What a full comparison with the kernel finds; None if there is no table."""
    reader = Reader()
    try:
        return compare(KernelTable(family, reader), ruleset, family)
    finally:
        reader.close()


def assert_held(ruleset: RuleSet, family: IPFamily = IPFamily.IPV4) -> None:
    """Fail unless the kernel holds these sets, elements and chains.

    Emptied chains may still be around; and draws, which many services share, as they were, since nothing leads there.
    """
    found = difference(ruleset, family)
    assert found is not None
    assert found.repairable
    change = found.change
    assert (change.sets_gone, change.sets_come, change.counters_gone, change.counters_come) == ({}, {}, set(), set())
    assert (change.elements_gone, change.elements_come) == ({}, {})
    assert change.chains_come.keys() == ruleset.chains.keys()
    wanted = {name: len(chain.rules) for name, chain in ruleset.chains.items()}
    rules = rules_held(family)
    left = {chain: rules[chain] if _DRAW.fullmatch(chain) else 0 for chain in change.chains_gone}
    assert rules == wanted | left


_DRAW = re.compile(r".*/(cluster|local)-\d+(/once)?")


def rules_held(family: IPFamily = IPFamily.IPV4) -> dict[str, int]:
    """How many rules each chain has, as nft lists them."""
    found: dict[str, int] = {}
    chain = ""
    for line in nft("-t", "list", "table", FAMILIES[family], "kproxy").splitlines():
        words = line.split()
        if line.startswith("\t\t") and chain:
            found[chain] += words[0] != "type"
        elif words and line.startswith("\t"):
            chain = words[1] if words[0] == "chain" else ""
            if chain:
                found[chain] = 0
    return found


__all__ = [
    "NAMES", "NODE", "NftApplier", "any_service", "assert_held", "carry_out", "copy", "difference", "held", "named",
    "nft", "plan_of", "pods", "service", "service_plans", "steps", "table_in_namespace",
]  # fmt: skip


def tell_of_elements_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel do so, as where it makes a set's hash table larger or smaller while it tells of them."""
    dump = Reader.dump

    def twice(reader: Reader, kind: int, family: int, body: bytes = b"") -> list[Message]:
        return dump(reader, kind, family, body) * (2 if kind == GET_ELEMENT else 1)

    monkeypatch.setattr(Reader, "dump", twice)
