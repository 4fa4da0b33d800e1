"""Connections are counted per Service and endpoint, and the totals never fall, whatever happens to rules and kproxy."""

import json
from collections.abc import Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Self

import pytest

from hack.lab import Pod, select, until
from hack.lab.hosts import IPTABLES
from tests.kit.packets import FAMILIES, PATIENCE, PORT, TARGET_PORT, Exposed, World, address, each_family
from tests.kit.variants import lab as lab
from tests.kit.variants import variant as variant

pytestmark = pytest.mark.kernel

SERVICE = "kproxy_service_connections_total"
ENDPOINT = "kproxy_endpoint_connections_total"
PODS = ("web-1", "web-2", "web-3")
SOME = 40
LAYOUTS = ("classic", "large")

FORGETFUL = ("nft", "large", "ipv6")
"""Where rewritten rules begin at zero: ip6tables-nft 1.8.9 takes no counters with a rule."""

each_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(scope="module")
def kproxy_args(variant: str) -> Sequence[str]:
    return "--iptables-variant", variant


@pytest.fixture
def here(world: World) -> World:
    world.expose("web", 10, pods(world))
    return world


def pods(world: World, *names: str) -> list[Pod]:
    return [world.lab.pod(name) for name in names or PODS]


def set_layout(world: World, layout: str) -> None:
    """Change the configuration file and wait until kproxy has taken it up."""
    documents = [
        {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"},
        {"apiVersion": "kproxy.dev/v1alpha1", "kind": "KproxyConfiguration", "layout": layout},
    ]
    text = "\n---\n".join(json.dumps(document) for document in documents)
    file = world.lab.folder / "config.json"
    if file.read_text() == text:
        return
    starts = world.kproxy.log().count(" starting ")
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(file)
    until(lambda: world.kproxy.log().count(" starting ") > starts, PATIENCE, "kproxy to take up its new configuration")
    world.settle()
    world.kproxy.wait_ready(PATIENCE)  # its metrics are served a moment after its rules are in force


def ask(world: World, family: str, times: int = SOME) -> dict[str, int]:
    """Make connections; return how many each pod got, by endpoint."""
    tally = world.lab.pod("asker").ask_many(Exposed("web", 10).ip(family), PORT, times=times)
    assert not tally.failures
    return {endpoint_of(world, name, family): count for name, count in tally.servers.items()}


def endpoint_of(world: World, pod: str, family: str) -> str:
    ip = address(world.lab.pod(pod), family)
    return f"[{ip}]:{TARGET_PORT}" if ":" in ip else f"{ip}:{TARGET_PORT}"


def add(*several: dict[str, int]) -> dict[str, int]:
    keys = dict.fromkeys(key for one in several for key in one)
    return {key: sum(one.get(key, 0) for one in several) for key in keys}


def assert_counted(counted: dict[str, int], asked: Sequence[dict[str, int]], *, rewritten_anew: bool) -> None:
    """Check that all connections have been counted once, or where that can't be had, the last ones, and none twice."""
    if rewritten_anew:
        assert SOME <= sum(counted.values()) <= SOME * len(asked)
    else:
        assert counted == add(*asked)


class Totals:
    """What /metrics has said of Service web at some moment."""

    def __init__(self, world: World) -> None:
        metrics = world.kproxy.metrics()
        self.service = int(sum(select(metrics, SERVICE, service="web").values()))
        found = select(metrics, ENDPOINT, service="web")
        self.endpoints = {
            sample.rpartition('endpoint="')[2].rstrip('"}'): int(value) for sample, value in found.items()
        }

    def since(self, before: "Totals") -> dict[str, int]:
        """What has come to each endpoint; the Service's total must be as much."""
        growth = {key: value - before.endpoints.get(key, 0) for key, value in self.endpoints.items()}
        assert self.service - before.service == sum(growth.values())
        return {key: value for key, value in growth.items() if value}


class NeverFalling:
    """Scrapes all the time while the block lasts, over restarts, and checks that no total of web falls."""

    def __init__(self, world: World) -> None:
        self.scrapes = 0
        self.fell: list[str] = []
        self._world = world
        self._seen: dict[str, float] = {}
        self._stop = Event()
        self._thread = Thread(target=self._run, name="scraper", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                metrics = self._world.kproxy.metrics()
            except OSError:
                continue  # it is being restarted
            now = select(metrics, SERVICE, service="web") | select(metrics, ENDPOINT, service="web")
            self.fell += [
                f"{sample}: {self._seen[sample]} to {value}"
                for sample, value in now.items()  # a kproxy that has just started shows none yet, which is no fall
                if value < self._seen.get(sample, 0)
            ]
            self._seen |= now
            self.scrapes += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        assert self.fell == [], self.fell
        assert self.scrapes > 5


def world_args(world: World) -> list[str]:
    command = list(world.kproxy.process.command)
    at = command.index("--iptables-variant")
    return command[at : at + 2]


@each_family
@each_layout
def test_every_connection_is_counted_once(here: World, layout: str, family: str) -> None:
    set_layout(here, layout)
    before = Totals(here)
    asked = ask(here, family)
    assert Totals(here).since(before) == asked
    assert Totals(here).since(before) == asked


@each_family
@each_layout
def test_endpoints_that_come_do_not_disturb_the_count_of_others(
    here: World, variant: str, layout: str, family: str
) -> None:
    """In the large layout the rules that count are rewritten; nobody scrapes in between."""
    set_layout(here, layout)
    here.rescale("web", pods(here, "web-3"))
    before = Totals(here)
    asked = [ask(here, family)]
    for names in (("web-2", "web-3"), PODS):
        here.rescale("web", pods(here, *names))
        asked.append(ask(here, family))
    assert_counted(Totals(here).since(before), asked, rewritten_anew=(variant, layout, family) == FORGETFUL)


@each_family
@each_layout
def test_endpoints_that_go_do_not_disturb_the_count_of_others(
    here: World, variant: str, layout: str, family: str
) -> None:
    set_layout(here, layout)
    before = Totals(here)
    asked = [ask(here, family)]
    for names in (("web-1", "web-3"), ("web-1",)):
        Totals(here)  # what an endpoint has got since the last scrape goes with it
        here.rescale("web", pods(here, *names))
        asked.append(ask(here, family))
    assert_counted(Totals(here).since(before), asked, rewritten_anew=(variant, layout, family) == FORGETFUL)


@each_layout
def test_totals_never_fall(here: World, variant: str, layout: str) -> None:
    """Endpoints come and go, tables are flushed, the layout changes, kproxy is restarted."""
    set_layout(here, layout)
    with NeverFalling(here):
        for family in FAMILIES:
            for names in (PODS, ("web-1",), ("web-2", "web-3")):
                here.rescale("web", pods(here, *names))
                ask(here, family, 10)
            here.lab.node.run([f"{IPTABLES[family]}-{variant}", "-t", "nat", "-F"])
            here.settle()
            ask(here, family, 10)
        set_layout(here, LAYOUTS[1 - LAYOUTS.index(layout)])
        ask(here, "ipv4", 10)


@each_family
def test_a_flush_takes_only_what_was_not_yet_scraped(here: World, variant: str, family: str) -> None:
    ask(here, family)
    before = Totals(here)
    here.lab.node.run([f"{IPTABLES[family]}-{variant}", "-t", "nat", "-F"])
    here.settle()
    asked = ask(here, family, 10)
    assert Totals(here).since(before) == asked


@each_layout
def test_another_layout_takes_nothing(here: World, layout: str) -> None:
    set_layout(here, layout)
    before = Totals(here)
    asked = [ask(here, family) for family in FAMILIES]
    set_layout(here, LAYOUTS[1 - LAYOUTS.index(layout)])  # the totals are read once more on the way
    asked += [ask(here, family, 3) for family in FAMILIES]
    assert Totals(here).since(before) == add(*asked)


@each_layout
@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_a_restart_takes_nothing(here: World, layout: str, end: str) -> None:
    """Not even what comes while kproxy is away: the rules count."""
    set_layout(here, layout)
    ask(here, "ipv4")
    before = Totals(here)
    args = world_args(here)
    if end == "SIGTERM":
        assert here.kproxy.stop() == 0
    else:
        here.kproxy.process.kill()
    asked = [ask(here, family) for family in FAMILIES]
    relaunch(here, args)
    asked += [ask(here, family) for family in FAMILIES]
    assert Totals(here).since(before) == add(*asked)


def relaunch(world: World, args: Sequence[str]) -> None:
    """Start kproxy with the configuration as it stands."""
    folder = world.lab.folder
    own = ["--config", str(folder / "config.json"), "--state-directory", str(folder / "state"), *args]
    world.kproxy = world.lab.node.start_kproxy(kubeconfig=world.server.kubeconfig, args=own)
    world.settle()
    world.kproxy.wait_ready(PATIENCE)
