"""Five broken Services, as people break them: kproxy explain says of each what packets meet, and why."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hack.lab import Host, Kproxy, Lab, Pod
from hack.lab.clients import Outcome
from tests.kit.apiserver.objects import endpoint, make_node, make_service, make_slice, service_port, slice_port
from tests.kit.deploy.manifests import DEPLOY
from tests.kit.packets import PATIENCE, SILENCE

pytestmark = pytest.mark.kernel

MODES = ("iptables", "nftables")
ELSEWHERE = "203.0.113.20"


class Shop(NamedTuple):
    """A lab with five Services, and a kproxy that serves them."""

    lab: Lab
    mode: str
    kproxy: Kproxy

    def explain(self, text: str, *arguments: str) -> dict[str, Any]:
        """What kproxy explain says; its exit code is held to what it says."""
        command = [sys.executable, "-m", "kproxy", "explain", text, "-o", "json", *arguments, *state(self.lab)]
        done = self.lab.node.run(command, check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == {"forward": 0, "reject": 3, "drop": 3, "none": 4}[answer["verdict"]]
        return answer

    def meets(self, host: Host, ip: str, port: int, timeout: float = PATIENCE) -> Outcome:
        """What a real connection meets; give ``timeout`` where that is to be silence."""
        return host.ask(ip, port, timeout=timeout).outcome


def state(lab: Lab) -> list[str]:
    return ["--state-directory", str(lab.folder / "state")]


def web(name: str, number: int, **spec: Any) -> dict[str, Any]:
    node_port = 30000 + number if spec.get("type") in ("NodePort", "LoadBalancer") else None
    ports = [service_port(80, name="http", target_port=8080, node_port=node_port)]
    ingress = spec.pop("ingress", [])
    status = {"loadBalancer": {"ingress": ingress}}
    kind = spec.pop("type", "ClusterIP")
    return make_service(name, "shop", cluster_ip=f"10.96.0.{number}", ports=ports, type=kind, spec=spec, status=status)


def behind(name: str, pod: Pod, port: str = "http", **conditions: Any) -> dict[str, Any]:
    place = endpoint(pod.ip, node=pod.node.name, **conditions)
    return make_slice(name, "shop", endpoints=[place], ports=[slice_port(8080, name=port)])


@pytest.fixture(scope="module", params=MODES)
def shop(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    if not lab.pods:
        for name, node in (("web-1", "node-a"), ("web-2", "node-b"), ("visitor", "node-a")):
            lab.add_pod(name, node).serve(8080)
    here, there = lab.pod("web-1"), lab.pod("web-2")
    balancer = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}
    objects: list[Mapping[str, Any]] = [
        make_node("node-a", addresses=[lab.node.ip]),
        *(web("misnamed", 81), behind("misnamed", here, port="web")),
        *(web("starting", 82), behind("starting", here, ready=False)),
        *(web("local", 83, type="NodePort", externalTrafficPolicy="Local"), behind("local", there)),
        *(web("members", 84, ingress=[{"ip": ELSEWHERE}], **balancer), behind("members", here)),
        *(web("hijacked", 85), behind("hijacked", here)),
    ]
    folder: Path = tmp_path_factory.mktemp("manifests")
    (folder / "shop.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    kproxy = lab.node.start_kproxy(manifests=folder, args=[*state(lab), "--proxy-mode", request.param])
    kproxy.wait_ready(PATIENCE)
    yield Shop(lab, request.param, kproxy)
    kproxy.stop()
    lab.node.clean_up(*state(lab))


def shown_on_the_page() -> Iterator[tuple[list[str], list[str]]]:
    """Yield what the page on troubleshooting has of kproxy explain: the command, and the lines that decide."""
    command: list[str] = []
    lines: list[str] = []
    for line in (DEPLOY / "docs/troubleshooting.md").read_text().splitlines():
        if line.startswith("    $ "):
            if lines:
                yield command, lines
            command, lines = line.split()[1:], []
        elif command[:2] == ["kproxy", "explain"] and line.startswith("      ") and "…" not in line:
            lines += [line.strip()] if line.lstrip().startswith(("verdict", "planned:", "rule ", "10.2")) else []
    if lines:
        yield command, lines


def test_the_page_on_troubleshooting_shows_what_is_seen(shop: Shop) -> None:
    """But for Service web, and for numbers that change, such as those of conntrack."""
    seen = 0
    for command, lines in shown_on_the_page():
        if command[2] in ("shop/web", "10.96.0.80:81"):
            continue
        with contextlib.ExitStack() as stack:
            if command[2] == "shop/hijacked":
                stack.enter_context(hijacked(shop))
            done = shop.lab.node.run([sys.executable, "-m", *command, *state(shop.lab)], check=False)
        found = [line.strip() for line in done.stdout.splitlines()]
        for line in lines:
            # The page shows mode iptables; in mode nftables it is another rule that is in front.
            assert line in found or (shop.mode == "nftables" and line.startswith("rule ")), command
            seen += 1
    assert seen >= 9


@contextlib.contextmanager
def hijacked(shop: Shop) -> Iterator[None]:
    """Have a rule of somebody else's in front of kproxy's."""
    rule = "PREROUTING -d 10.96.0.85 -p tcp --dport 80 -j DNAT --to-destination 10.244.1.99:80"
    hook = "{ type nat hook prerouting priority -150; ip daddr 10.96.0.85 tcp dport 80 dnat to 10.244.1.99:80; }"
    if shop.mode == "iptables":
        put, take = f"iptables-legacy -t nat -I {rule}", f"iptables-legacy -t nat -D {rule}"
    else:
        put, take = f"nft 'table ip hostile {{ chain first {hook}; }}'", "nft delete table ip hostile"
    shop.lab.node.run(["sh", "-c", put])
    try:
        yield
    finally:
        shop.lab.node.run(["sh", "-c", take])


def test_a_port_by_the_wrong_name(shop: Shop) -> None:
    answer = shop.explain("shop/misnamed")
    assert (answer["verdict"], answer["kernel"]) == ("reject", "as planned")
    assert "no port named 'http' (TCP), they have 'web' (TCP)" in answer["reason"]
    assert [one["reason"] for one in answer["endpoints"]] == [
        "its port is named 'web' (TCP), the Service's 'http' (TCP)"
    ]
    assert shop.meets(shop.lab.pod("visitor"), "10.96.0.81", 80) is Outcome.REFUSED


def test_no_onlythat_is_ready(shop: Shop) -> None:
    answer = shop.explain("shop/starting")
    assert (answer["verdict"], answer["kernel"]) == ("reject", "as planned")
    assert answer["reason"] == "shop/starting:http has no ready endpoint (1 is known)"
    assert [one["reason"] for one in answer["endpoints"]] == ["not ready"]
    assert shop.meets(shop.lab.pod("visitor"), "10.96.0.82", 80) is Outcome.REFUSED


def test_policy_local_without_an_onlyhere(shop: Shop) -> None:
    answer = shop.explain(":30083", "--from", "outside")
    assert (answer["verdict"], answer["kernel"]) == ("drop", "as planned")
    assert "externalTrafficPolicy Local" in answer["reason"]
    assert [one["reason"] for one in answer["endpoints"]] == ["on another node, and the traffic policy is Local"]
    assert shop.meets(shop.lab.client, shop.lab.node.ip, 30083, SILENCE) is Outcome.DROPPED
    assert shop.explain("shop/local")["verdict"] == "forward"


def test_a_source_range_that_the_client_is_not_in(shop: Shop) -> None:
    client = shop.lab.client.ip
    answer = shop.explain(f"{ELSEWHERE}:80", "--from", client)
    assert (answer["verdict"], answer["kernel"]) == ("drop", "as planned")
    assert f"only 198.51.100.0/24 may use this address, and {client} is not in it" in answer["reason"]
    assert shop.meets(shop.lab.client, ELSEWHERE, 80, SILENCE) is Outcome.DROPPED


def test_somebody_else_s_dnat_in_front(shop: Shop) -> None:
    with hijacked(shop):
        answer = shop.explain("shop/hijacked")
        assert (answer["verdict"], answer["kernel"]) == ("forward", "differs")
        (added,) = (one for one in answer["differences"] if one["kind"] == "added")
        assert "10.244.1.99:80" in added["rule"]
        assert added["chain"] == ("PREROUTING" if shop.mode == "iptables" else "first")
        assert shop.meets(shop.lab.pod("visitor"), "10.96.0.85", 80, SILENCE) is not Outcome.ANSWERED
    assert shop.explain("shop/hijacked")["kernel"] == "as planned"
    assert shop.meets(shop.lab.pod("visitor"), "10.96.0.85", 80) is Outcome.ANSWERED
