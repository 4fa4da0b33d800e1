"""What is loaded, and when: objects are asked for first, then the rules come, and then what they do not need."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.lab import Lab
from hack.lab.waiting import until
from tests.kit.apiserver.objects import endpoint, make_node, make_service, make_slice, service_port, slice_port
from tests.kit.apiserver.process import ApiServerProcess

PATIENCE = 60.0
MODES = ("iptables", "nftables")
WATCHER = """
import json, sys, threading
from pathlib import Path
import kproxy.cli
import kproxy.daemon.run as daemon

folder = Path(sys.argv.pop(1))
loop, source, memory = daemon.Proxier, daemon.ApiSource, daemon.memory


def before(owner, name, moment):
    done = getattr(owner, name)

    def noted(*args, **more):
        draft = folder / (moment + ".draft")
        draft.write_text(json.dumps(sorted(sys.modules)))
        draft.rename(folder / moment)
        return done(*args, **more)

    setattr(owner, name, noted)


before(source, "start", "asking")
before(daemon.Notes, "all_synced", "synced")
before(memory, "give_back", "quiet")
sys.exit(kproxy.cli.main())
"""
"""Runs kproxy and writes down what is loaded: when it asks for objects, at the end of the first sync, and at rest."""

SERVING = {"asyncio", "h11", "prometheus_client", "kproxy.report.http", "kproxy.report.metrics", "kproxy.conntrack"}
ASKED = {"kproxy.explain", "kproxy.held", "kproxy.daemon.inspect", "kproxy.report.page.answers", "kproxy.tools"}
"""What answers questions."""
SELDOM = {"aiohttp", "iptc", "kubernetes", "pyroute2", "socks", "tabulate", "termcolor", "kproxy.ingress"}
ENGINES = {
    "iptables": {"kproxy.backends.iptables.backend", "kproxy.backends.iptables.kernel.variant"},
    "nftables": {"kproxy.backends.nftables.backend", "kproxy.backends.nftables.kernel.table"},
}
OTHER = {"iptables": "nftables", "nftables": "iptables"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(nodes=("node-a",)) as made:
        yield made


@pytest.fixture(scope="module", params=MODES)
def loaded(request: pytest.FixtureRequest, lab: Lab) -> tuple[str, dict[str, set[str]]]:
    """The mode, and what was loaded at each moment."""
    mode: str = request.param
    folder = lab.folder / f"loaded-{mode}"
    folder.mkdir()
    node = lab.node
    with ApiServerProcess(netns=node.namespace.name) as server:
        server.control.put(
            make_node("node-a", addresses=[node.ip, node.ip6]),
            make_service("web", cluster_ip="10.96.0.10", ports=[service_port(80)]),
            make_slice("web", endpoints=[endpoint("10.0.0.9")], ports=[slice_port(8080)]),
        )
        settings = ["--kubeconfig", str(server.kubeconfig), "--hostname-override", "node-a", "--proxy-mode", mode]
        state = ["--state-directory", str(folder / "state")]
        process = node.start([sys.executable, "-c", WATCHER, str(folder), "run", *settings, *state])
        until(lambda: at_rest(folder), PATIENCE, "kproxy to have nothing left to do")
        process.stop()
    node.clean_up()
    return mode, {moment: read(folder / moment) for moment in ("asking", "synced", "quiet")}


def at_rest(folder: Path) -> bool:
    """Tell whether memory was given back after all was made; the first sync gives some back, too."""
    file = folder / "quiet"
    return file.exists() and "kproxy.daemon.company" in read(file)


def read(file: Path) -> set[str]:
    names: list[str] = json.loads(file.read_text())
    return set(names)


def found(modules: set[str], wanted: set[str]) -> set[str]:
    """Return those that are loaded: a module, or of a package anything that it holds."""
    return {one for one in wanted if one in modules or any(module.startswith(f"{one}.") for module in modules)}


@pytest.mark.kernel
def test_objects_are_asked_for_before_any_engine_is_loaded(loaded: tuple[str, dict[str, set[str]]]) -> None:
    _, modules = loaded
    assert not found(modules["asking"], SERVING | ASKED | SELDOM | ENGINES["iptables"] | ENGINES["nftables"])


@pytest.mark.kernel
def test_rules_are_in_force_before_anything_is_loaded_that_they_do_not_need(
    loaded: tuple[str, dict[str, set[str]]],
) -> None:
    mode, modules = loaded
    assert not found(modules["synced"], SERVING | ASKED | SELDOM | ENGINES[OTHER[mode]])
    assert found(modules["synced"], ENGINES[mode]) == ENGINES[mode]


@pytest.mark.kernel
def test_nothing_is_loaded_that_nobody_has_asked_for(loaded: tuple[str, dict[str, set[str]]]) -> None:
    mode, modules = loaded
    assert not found(modules["quiet"], ASKED | SELDOM | ENGINES[OTHER[mode]])
    assert found(modules["quiet"], SERVING) == SERVING
