"""kproxy on a folder of manifests, with packets: the stand-alone load balancer, and what broken files do to it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hack.lab import Kproxy, Lab, Outcome, Pod, until
from tests.kit.apiserver.kinds import Json
from tests.kit.packets import (
    FAMILIES,
    PATIENCE,
    PORT,
    SILENCE,
    TARGET_PORT,
    Exposed,
    address,
    assert_all,
    external_ips,
    of,
    service,
    slices,
)

pytestmark = pytest.mark.kernel

WEB = ("web-1", "web-2", "web-3")


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, Pod]:
    for name, node in (("web-1", "node-a"), ("web-2", "node-a"), ("web-3", "node-b"), ("asker", "node-a")):
        lab.add_pod(name, node).serve(TARGET_PORT)
    return lab.pods


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests")


@pytest.fixture(scope="module")
def kproxy(lab: Lab, pods: dict[str, Pod], folder: Path) -> Iterator[Kproxy]:
    write(folder / "front.yaml", service("front", 10), *slices("front", [pods["web-1"]]))
    state = ["--state-directory", str(lab.folder / "state")]
    kproxy = lab.node.start_kproxy(manifests=folder, args=state)
    kproxy.wait_ready(PATIENCE)
    yield kproxy
    assert kproxy.stop() == 0
    assert "Traceback" not in kproxy.log()


def write(path: Path, *objects: Json) -> None:
    """Put a file there in one go, as YAML documents or as a JSON list, by its name."""
    draft = path.with_suffix(".draft")
    if path.suffix == ".json":
        draft.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))
    else:
        draft.write_text(yaml.safe_dump_all(objects))
    draft.rename(path)


def server_of(lab: Lab, ip: str, timeout: float = PATIENCE) -> str:
    return lab.pod("asker").ask(ip, PORT, timeout=timeout).server


def wait_for_server(lab: Lab, service: Exposed, server: str) -> None:
    """Wait for both families to lead to a server."""
    until(
        lambda: all(server_of(lab, service.ip(family), SILENCE) == server for family in FAMILIES),
        PATIENCE,
        f"{service.name} to lead to {server}",
    )


def test_it_is_at_work_when_it_says_so(lab: Lab, kproxy: Kproxy) -> None:
    assert kproxy.get("/healthz")[0] == 200
    assert server_of(lab, "10.96.0.10") == "web-1"


@pytest.mark.usefixtures("kproxy")
@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_files_come_change_and_go(lab: Lab, pods: dict[str, Pod], folder: Path, suffix: str) -> None:
    shop, path = Exposed("shop", 11), folder / f"shop{suffix}"
    write(path, service("shop", 11), *slices("shop", [pods["web-1"]]))
    wait_for_server(lab, shop, "web-1")
    write(path, service("shop", 11), *slices("shop", [pods["web-3"]]))
    wait_for_server(lab, shop, "web-3")
    path.unlink()
    wait_for_server(lab, shop, "")
    assert server_of(lab, "10.96.0.10") == "web-1"


@pytest.mark.usefixtures("kproxy")
def test_an_object_may_move_from_file_to_file(lab: Lab, pods: dict[str, Pod], folder: Path) -> None:
    moving = Exposed("moving", 12)
    write(folder / "services.yaml", service("moving", 12))
    write(folder / "slices.yaml", *slices("moving", [pods["web-2"]]))
    wait_for_server(lab, moving, "web-2")
    write(folder / "one.yaml", service("moving", 12), *slices("moving", [pods["web-1"]]))
    (folder / "services.yaml").unlink()
    (folder / "slices.yaml").unlink()
    wait_for_server(lab, moving, "web-1")


@pytest.mark.usefixtures("kproxy")
def test_all_ways_in_work_without_a_cluster(lab: Lab, pods: dict[str, Pod], folder: Path) -> None:
    """A layer-4 load balancer, from outside, over pods on two nodes."""
    edge = Exposed("edge", 13)
    ingress = [{"ip": ip} for ip in external_ips(13)]
    backends = [pods[name] for name in WEB]
    write(folder / "edge.yaml", service("edge", 13, type="LoadBalancer", ingress=ingress), *slices("edge", backends))
    for family in FAMILIES:
        vip = of(external_ips(13), family)
        until(lambda vip=vip: lab.client.ask(vip, PORT, timeout=SILENCE).server, PATIENCE, f"{vip} to answer")  # type: ignore[misc]
        for target in ((vip, PORT), (address(lab.node, family), edge.node_port)):
            assert_all(lab.client.ask_many(*target, times=60), servers=WEB)


BROKEN: dict[str, tuple[str, str]] = {  # what is in the file, and what names the place; more of them in test_manifests
    "a tab in the fourth line": (
        "kind: Service\nmetadata: {name: x}\nspec:\n\tclusterIP: 10.96.0.14\n",
        "broken.yaml:4",
    ),
    "cut off in its second document": ("kind: Service\nmetadata: {name: x}\n---\nkind: [\n", "broken.yaml:5"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_file_that_does_not_parse_is_named_with_its_line_and_changes_nothing(
    lab: Lab, pods: dict[str, Pod], folder: Path, kproxy: Kproxy, case: str
) -> None:
    held, other = Exposed("held", 14), Exposed("other", 15)
    content, place = BROKEN[case]
    path = folder / "broken.yaml"
    write(path, service("held", 14), *slices("held", [pods["web-1"]]))
    wait_for_server(lab, held, "web-1")
    before = len(kproxy.log().splitlines())
    path.write_text(content)

    def complaints() -> list[str]:
        return [line for line in kproxy.log().splitlines()[before:] if " error " in line]

    until(complaints, PATIENCE, "the file to be named")
    # Other files are followed all the same, and what the broken one held stays.
    for server in ("web-1", "web-2"):
        write(folder / "other.yaml", service("other", 15), *slices("other", [pods[server]]))
        wait_for_server(lab, other, server)
    assert server_of(lab, held.ip("ipv4")) == "web-1"
    assert len(complaints()) == 1
    assert place in complaints()[0]
    assert "stays in force" in complaints()[0]
    write(path, service("held", 14), *slices("held", [pods["web-3"]]))
    wait_for_server(lab, held, "web-3")


def test_the_folder_may_go_and_come_back(lab: Lab, kproxy: Kproxy, folder: Path) -> None:
    away = folder.with_name("away")
    folder.rename(away)
    until(lambda: "cannot be read: No such file" in kproxy.log(), PATIENCE, "the folder to be missed")
    assert server_of(lab, "10.96.0.10") == "web-1"
    away.rename(folder)
    (folder / "front.yaml").unlink()
    until(
        lambda: lab.pod("asker").ask("10.96.0.10", PORT, timeout=SILENCE).outcome is Outcome.DROPPED,
        PATIENCE,
        "the service to be gone",
    )
