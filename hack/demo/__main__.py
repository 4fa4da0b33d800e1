"""The demo's story, one function a step. Every line with a ✓ was checked a moment before it was printed."""

import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from hack.demo import shop
from hack.demo.rules import explain
from hack.demo.screen import Screen
from hack.lab import Connection, Host, Kproxy, Lab, LabError, Outcome, Tally, select, until

REQUESTS = 300
LAST_LINES = 15  # of kproxy's log, when it fails
PATIENCE = 60.0  # seconds for what takes one, on a machine that is busy with other things
MOVED_AFTER = 40  # requests in a row that must not meet the removed pod: by chance, once in ten million tries

PICTURE = """
                 client  192.0.2.7                 outside the cluster
                    |
       -----+-------+-------+-----                 the network between machines
            |               |
         node-a          node-b                    10.0.0.1 and 10.0.0.2; kproxy runs on node-a
       |  |  |  |       |  |  |
     web-1  cart-1    web-3  cart-2                each pod a network namespace of its own,
     web-2  checkout  stock-1                      with a real server (checkout only asks)
"""


def spread(screen: Screen, tally: Tally, pods: Iterable[str], times: int) -> None:
    """Show how the requests spread, and claim that all were answered and that they spread evenly."""
    names = tuple(pods)
    screen.bars({name: tally.servers[name] for name in {*names, *tally.servers}})
    screen.claim(f"all {times} were answered", dict(tally.outcomes), {Outcome.ANSWERED: times})
    mean = times / len(names)
    slack = 5 * (times * (1 / len(names)) * (1 - 1 / len(names))) ** 0.5  # five standard deviations of a fair draw
    holds = set(tally.servers) == set(names) and all(abs(tally.servers[name] - mean) <= slack for name in names)
    expected = f"{mean:.0f} ± {slack:.0f} for each of {', '.join(names)}"
    screen.claim_that(holds, f"each of {len(names)} pods got its fair share", dict(tally.servers), expected)


def build(screen: Screen, lab: Lab) -> Path:
    screen.heading("A cluster's network on this machine")
    manifests = shop.open_shop(lab)
    lab.add_pod("checkout")
    print(PICTURE.rstrip())
    return manifests


def start(screen: Screen, lab: Lab, manifests: Path) -> Kproxy:
    screen.heading("kproxy starts on node-a, with the shop's manifests")
    answer = lab.pod("checkout").ask(shop.WEB, shop.WEB_PORT, timeout=0.3)
    screen.claim(f"before, nothing answers at {shop.WEB}", answer.outcome, Outcome.DROPPED)
    started = time.monotonic()
    kproxy = lab.node.start_kproxy(manifests=manifests)
    kproxy.wait_ready()
    took = time.monotonic() - started
    screen.say(f"kproxy run --manifests {manifests.name}/ --hostname-override node-a --cluster-cidr 10.244.0.0/16,…")
    screen.claim(f"healthy, with its rules in the kernel, {took:.1f} s later", kproxy.get("/healthz")[0], 200)
    return kproxy


def from_a_pod(screen: Screen, lab: Lab) -> None:
    checkout = lab.pod("checkout")
    screen.heading(f"From a pod to a ClusterIP: checkout asks web at {shop.WEB}:{shop.WEB_PORT}")
    tally = checkout.ask_many(shop.WEB, shop.WEB_PORT, times=REQUESTS)
    spread(screen, tally, shop.WEB_PODS, REQUESTS)
    screen.claim(f"the pods saw checkout's own address, {checkout.ip}", set(tally.sources), {checkout.ip})
    screen.heading(f"The same by IPv6: cart at [{shop.CART6}]:{shop.CART_PORT}")
    spread(screen, checkout.ask_many(shop.CART6, shop.CART_PORT, times=REQUESTS), shop.CART_PODS, REQUESTS)
    stock = checkout.ask_many(shop.STOCK, shop.STOCK_PORT, "UDP", times=50)
    text = f"and by UDP: stock at {shop.STOCK}:{shop.STOCK_PORT} answered 50 of 50"
    screen.claim(text, dict(stock.servers), {"stock-1": 50})


def from_outside(screen: Screen, lab: Lab) -> None:
    node = lab.node
    screen.heading(f"From outside to a NodePort: the client asks {node.ip}:{shop.WEB_NODE_PORT}")
    tally = lab.client.ask_many(node.ip, shop.WEB_NODE_PORT, times=REQUESTS)
    spread(screen, tally, shop.WEB_PODS, REQUESTS)
    screen.claim_that(
        lab.client.ip not in tally.sources,
        "the pods saw the node, not the client, so that their answers come back through it",
        set(tally.sources),
        f"not {lab.client.ip}",
    )


def without_endpoints(screen: Screen, lab: Lab) -> None:
    screen.heading(f"No endpoints: checkout asks search at {shop.SEARCH}:{shop.SEARCH_PORT}")
    tally = lab.pod("checkout").ask_many(shop.SEARCH, shop.SEARCH_PORT, times=20)
    slowest = max(answer.seconds for answer in tally.answers)
    screen.claim("all 20 connections were refused", dict(tally.outcomes), {Outcome.REFUSED: 20})
    text = f"at once: the slowest took {slowest * 1000:.1f} ms; nobody waits for a time-out"
    screen.claim_that(slowest < 0.5, text, f"{slowest:.1f} s", "less than half a second")


def pod_removed(screen: Screen, lab: Lab, manifests: Path) -> None:
    screen.heading("A pod goes: web-2 is taken out of web's endpoints, then stopped")
    checkout, gone = lab.pod("checkout"), lab.pod("web-2")
    with (
        connection_to(checkout, avoiding="web-2") as held,
        checkout.load(shop.WEB, shop.WEB_PORT, every=0.002) as load,
    ):
        started = time.monotonic()
        shop.take_out(manifests, "web", gone.ip)
        until(lambda: "web-2" not in asked(checkout).servers, PATIENCE, "new connections to avoid web-2")
        took = time.monotonic() - started
        ended_well = all(server.drain() for server in gone.servers)
        lab.remove_pod("web-2")
        tally = checkout.ask_many(shop.WEB, shop.WEB_PORT, times=REQUESTS)
        still_there = held.echo()
    spread(screen, tally, ("web-1", "web-3"), REQUESTS)
    text = f"the traffic moved within {took:.2f} s of the change"
    screen.claim_that(took < 5, text, f"{took:.1f} s", "less than 5 s")
    requests = len(load.tally.answers)
    screen.claim(f"of {requests} requests made meanwhile, none failed", load.tally.failures, ())
    screen.claim("web-2 could finish what it was doing", ended_well, True)
    screen.claim(f"a connection to {held.server}, opened before, is still open", still_there, True)


def asked(host: Host) -> Tally:
    return host.ask_many(shop.WEB, shop.WEB_PORT, times=MOVED_AFTER)


def connection_to(host: Host, avoiding: str) -> Connection:
    while True:
        connection = host.connect(shop.WEB, shop.WEB_PORT)
        if connection.server != avoiding:
            return connection
        connection.close()


def rules(screen: Screen, lab: Lab) -> None:
    screen.heading("What kproxy wrote into the kernel for web (iptables-save -t nat, comments left out)")
    found, wanted = 0, 0
    for remark, rule in explain(lab.node.iptables_save("ipv4", "nat"), shop.WEB, "shop/web:http"):
        screen.quote(rule, remark)
        wanted += 1
        found += bool(rule)
    screen.claim("there is a rule for each step", found, wanted)


METRICS: tuple[tuple[str, dict[str, str]], ...] = (
    ("kubeproxy_sync_proxy_rules_duration_seconds_count", {"ip_family": "IPv4"}),
    ("kubeproxy_sync_proxy_rules_iptables_total", {"ip_family": "IPv4", "table": "nat"}),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_total", {}),
    ("kproxy_service_connections_total", {"namespace": "shop", "service": "web"}),
    ("kproxy_service_rejected_packets_total", {"namespace": "shop", "service": "search"}),
)


def metrics(screen: Screen, kproxy: Kproxy) -> None:
    screen.heading("A few of its metrics")
    samples = kproxy.metrics()
    missing = []
    for name, labels in METRICS:
        found = select(samples, name, **labels)
        missing += [] if any(found.values()) else [name]
        for sample, value in found.items():
            screen.quote(f"{sample} {value:.0f}")
    screen.claim("all are there, and none is zero", missing, [])


def leave(screen: Screen, lab: Lab, kproxy: Kproxy) -> None:
    screen.heading("kproxy goes; its rules stay until they are cleaned up")
    screen.claim("SIGTERM ended it, exit code 0", kproxy.stop(), 0)
    tally = lab.pod("checkout").ask_many(shop.WEB, shop.WEB_PORT, times=100)
    screen.claim("100 requests without it, 100 answers", dict(tally.outcomes), {Outcome.ANSWERED: 100})
    lab.node.clean_up()
    left = [lab.node.iptables_save(family) for family in ("ipv4", "ipv6")]
    own = [line for text in left for line in text.splitlines() if "KUBE-" in line]
    screen.claim("kproxy cleanup removed every rule of its own", own, [])
    screen.claim("and left the network plug-in's in place", [text.count("CNI-MASQUERADE") for text in left], [4, 4])


def tell(screen: Screen, lab: Lab) -> None:
    """The whole story. Raises LabError where it cannot go on, with the last that kproxy said."""
    manifests = build(screen, lab)
    kproxy = start(screen, lab, manifests)
    try:
        from_a_pod(screen, lab)
        from_outside(screen, lab)
        without_endpoints(screen, lab)
        pod_removed(screen, lab, manifests)
        rules(screen, lab)
        metrics(screen, kproxy)
        leave(screen, lab, kproxy)
    except (LabError, OSError) as error:
        last_words = kproxy.log().splitlines()[-LAST_LINES:]
        raise LabError("\n  ".join([f"{error}; the end of kproxy's log:", *last_words])) from None


def main() -> int:
    screen = Screen()
    try:
        with Lab() as lab:
            tell(screen, lab)
    except LabError as error:
        print(f"\nhack/demo.sh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return screen.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the lab is cleaned up then, too
    sys.exit(main())
