"""Connections that came a moment too early, or to a pod that has just been taken away; all of kproxy is at work.

What is written into conntrack by a first packet holds for all that follow, until somebody releases it: a client that
came too early would never be answered, whatever it tries. What kproxy does to conntrack is tested on its own; here is
what clients see of it, whichever engine writes the rules.
"""

import select
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from hack.lab import Kproxy, Lab, Pod, until
from hack.lab.hosts import Host
from tests.kit.apiserver.kinds import Json
from tests.kit.packets import (
    FAMILIES,
    PATIENCE,
    PORT,
    PROTOCOLS,
    SILENCE,
    TARGET_PORT,
    Exposed,
    address,
    each_family,
    each_protocol,
    external_ips,
    nodes,
    of,
    service,
    slices,
)
from tests.kit.packets.conntrack import mute

pytestmark = pytest.mark.kernel

ENGINES = {
    "iptables": (),
    "nft variant": ("--iptables-variant", "nft"),
    "nftables": ("--proxy-mode", "nftables"),
}
WAITING = Exposed("waiting", 10)
SOURCE_PORT = 45000


class Attempt:
    """A TCP connection that is begun and left to the kernel, which sends its SYN again a second later, and so on."""

    def __init__(self, who: Host, ip: str, port: int = PORT) -> None:
        with who.namespace.entered():
            self._socket = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        self._socket.setblocking(False)
        self._socket.connect_ex((ip, port))

    def end(self) -> str:
        """Wait for what becomes of it: the name of the server, or what error it met."""
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        try:
            if not ready.poll(PATIENCE * 1000):
                return "no answer"
            return self._socket.recv(1000).decode().partition(" ")[0]
        except OSError as error:
            return type(error).__name__
        finally:
            self._socket.close()


class Stage(NamedTuple):
    """The lab, and kproxy on node-a with a folder of manifests; a file for each Service."""

    lab: Lab
    folder: Path
    kproxy: Kproxy

    def put(self, name: str, *objects: Json) -> None:
        """Write what there is of one Service, all at once."""
        write(self.folder, name, objects)

    def wait_for(self, exposed: Exposed, server: str, protocol: str = "TCP", *, source_port: int = 0) -> None:
        """Wait until asker gets its answers from this server, in one family and then in the other.

        Who has been answered is not asked again: a port from which a connection has just ended can begin no other to
        the same place.
        """
        for family in FAMILIES:
            ask = partial(self.asks, exposed.ip(family), protocol, source_port=source_port)
            until(lambda ask=ask: ask() == server, PATIENCE, f"{exposed.name} to be answered by {server or 'nobody'}")  # type: ignore[misc]

    def asks(
        self,
        ip: str,
        protocol: str = "TCP",
        *,
        port: int = PORT,
        source_port: int = SOURCE_PORT,
        timeout: float = SILENCE,
    ) -> str:
        """The name of the server that answers asker when it asks from the same port as ever; empty without one."""
        return self.lab.pod("asker").ask(ip, port, protocol, timeout=timeout, source_port=source_port).server


def write(folder: Path, name: str, objects: Sequence[Json]) -> None:
    draft = folder / f"{name}.draft"
    draft.write_text(yaml.safe_dump_all(objects))
    draft.rename(folder / f"{name}.yaml")


@pytest.fixture(scope="module", params=ENGINES.values(), ids=list(ENGINES))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Before kproxy has its first rules in place, asker has asked in vain, for each protocol and family."""
    folder = tmp_path_factory.mktemp("manifests")
    with Lab() as lab:
        lab.node.namespace.sysctl("net.netfilter.nf_conntrack_sctp_timeout_cookie_wait", 120)
        for name, node in (("web-1", "node-a"), ("web-2", "node-b"), ("asker", "node-a")):
            pod = lab.add_pod(name, node)
            for protocol in PROTOCOLS:
                pod.serve(TARGET_PORT, protocol)
        mute(lab, "silent")
        everybody = slices("waiting", [lab.pod("web-1")], protocols=PROTOCOLS)
        write(folder, "waiting", [*nodes(lab), service("waiting", 10, protocols=PROTOCOLS), *everybody])
        for protocol in PROTOCOLS:
            for family in FAMILIES:
                answer = lab.pod("asker").ask(
                    WAITING.ip(family), PORT, protocol, timeout=SILENCE, source_port=SOURCE_PORT
                )
                assert answer.server == ""
        own = ("--state-directory", str(lab.folder / "state"))
        kproxy = lab.node.start_kproxy(manifests=folder, args=[*own, *request.param])
        kproxy.wait_ready(PATIENCE)
        yield Stage(lab, folder, kproxy)
        assert kproxy.stop() == 0
        assert "Traceback" not in kproxy.log()


@each_protocol
@each_family
def test_who_was_there_before_kproxy_is_answered_once_it_is_ready(stage: Stage, protocol: str, family: str) -> None:
    assert stage.asks(WAITING.ip(family), protocol, timeout=PATIENCE) == "web-1"


@pytest.mark.parametrize("way", ["ClusterIP", "external IP"])
def test_connection_begun_before_its_service_is_answered(stage: Stage, way: str) -> None:
    number = {"ClusterIP": 11, "external IP": 12}[way]
    late = Exposed(f"late-{number}", number)
    who = stage.lab.pod("asker") if way == "ClusterIP" else stage.lab.client
    places = {
        family: late.ip(family) if way == "ClusterIP" else of(external_ips(number), family) for family in FAMILIES
    }
    attempts = {family: Attempt(who, ip) for family, ip in places.items()}
    spec = {"externalIPs": list(external_ips(number))}
    stage.put(late.name, service(late.name, number, spec=spec), *slices(late.name, [stage.lab.pod("web-2")]))
    assert {family: attempt.end() for family, attempt in attempts.items()} == dict.fromkeys(FAMILIES, "web-2")


@each_protocol
def test_client_that_comes_again_from_the_same_port_is_answered(stage: Stage, protocol: str) -> None:
    number = 20 + PROTOCOLS.index(protocol)
    late = Exposed(f"again-{number}", number)
    for family in FAMILIES:
        assert stage.asks(late.ip(family), protocol) == ""
    backends = slices(late.name, [stage.lab.pod("web-1")], protocols=[protocol])
    stage.put(late.name, service(late.name, number, protocols=[protocol]), *backends)
    stage.wait_for(late, "web-1", protocol, source_port=SOURCE_PORT)


@pytest.mark.parametrize("way", ["ClusterIP", "node port"])
def test_connection_to_a_pod_that_is_taken_away_goes_to_another(stage: Stage, way: str) -> None:
    number = {"ClusterIP": 30, "node port": 31}[way]
    moving = Exposed(f"moving-{number}", number)
    node = stage.lab.node
    put_behind(stage, moving, stage.lab.pod("silent"))
    if way == "ClusterIP":
        attempts = {family: Attempt(stage.lab.pod("asker"), moving.ip(family)) for family in FAMILIES}
    else:
        attempts = {family: Attempt(stage.lab.client, address(node, family), moving.node_port) for family in FAMILIES}
    stage.put(
        moving.name,
        service(moving.name, number, type="NodePort"),
        *slices(moving.name, [stage.lab.pod("web-2")]),
    )
    assert {family: attempt.end() for family, attempt in attempts.items()} == dict.fromkeys(FAMILIES, "web-2")


def test_connection_to_the_last_pod_is_refused_once_it_is_taken_away(stage: Stage) -> None:
    emptied = Exposed("emptied", 32)
    put_behind(stage, emptied, stage.lab.pod("silent"))
    attempts = {family: Attempt(stage.lab.pod("asker"), emptied.ip(family)) for family in FAMILIES}
    stage.put("emptied", service("emptied", 32, type="NodePort"), *slices("emptied", []))
    outcomes = {family: attempt.end() for family, attempt in attempts.items()}
    assert outcomes == dict.fromkeys(FAMILIES, "ConnectionRefusedError")


def put_behind(stage: Stage, exposed: Exposed, pod: Pod) -> None:
    """Make a Service of a pod that never says a word, and wait until it is in force in both families."""
    node_port = service(exposed.name, exposed.number, type="NodePort")
    marker = Exposed(f"{exposed.name}-marker", 100 + exposed.number)
    stage.put(exposed.name, node_port, *slices(exposed.name, [pod]))
    stage.put(marker.name, service(marker.name, marker.number), *slices(marker.name, [stage.lab.pod("web-1")]))
    stage.wait_for(marker, "web-1")


def test_established_connections_are_never_touched(stage: Stage) -> None:
    """Their pod is taken away, comes back, and the Service goes: they go on."""
    lasting = Exposed("lasting", 40)
    put_behind(stage, lasting, stage.lab.pod("web-1"))
    asker = stage.lab.pod("asker")
    connections = [asker.connect(lasting.ip(family), PORT) for family in FAMILIES]
    for pods in ["web-2"], [], ["web-1"]:
        objects = slices("lasting", [stage.lab.pod(name) for name in pods])
        stage.put("lasting", service("lasting", 40, type="NodePort"), *objects)
        stage.wait_for(lasting, pods[0] if pods else "")
        assert [connection.echo() for connection in connections] == [True, True]
    stage.put("lasting")
    put_behind(stage, Exposed("after", 41), stage.lab.pod("web-1"))
    assert [connection.echo() for connection in connections] == [True, True]
    for connection in connections:
        connection.close()
