"""One request of chapter 6, followed from the client's socket to the pod and back.

These are the last steps of the chapter, and the page "The whole way of a packet": `hack.tour.page` prints it from what
they show.
"""

import re
from typing import Any

from hack.tour import service
from hack.tour.docker0 import flows, grep
from hack.tour.guide import Background, Guide

CLIENT, EDGE, INGRESS, POD = "192.0.2.7", "203.0.113.90", "10.244.0.80", "10.244.1.43"
PORT = 40001
FLAGS = "tcp[tcpflags] & tcp-syn != 0"  # the first packet of a connection, and the first of the answer
FIRST = "The name"  # the title of the first of these steps
CHANGING = "PORT and N"
HOPS = ("client", "node-a", "pod-ingress", "pod-order-1")


def name(guide: Guide, _: Any) -> None:
    guide.step(
        FIRST,
        """A client begins with a name. Outside the cluster this is the world's DNS; all hosts of the shop have the one
        address of its ingress.""",
    )
    output = guide.run("ip netns exec client dig +short shop.example.com")
    guide.claim("shop.example.com is the ingress' address outside", output.strip(), EDGE)


def routes(guide: Guide, _: Any) -> None:
    guide.step(
        "To the node",
        """The client hands the packet to its router. There a route says that the address is node-a's concern; in a
        cloud, that is the load balancer's doing. On the way nobody changes the packet's addresses.""",
    )
    first = guide.run(f"ip -n client route get {EDGE}", show=lambda text: text.splitlines()[:1])
    second = guide.run(f"ip -n router route get {EDGE} from {CLIENT} iif to-client",
                       show=lambda text: text.splitlines()[:1])  # fmt: skip
    guide.claim_that("via 192.0.2.1 " in first, "the client's way out is the router", first, "via 192.0.2.1")
    guide.claim_that("via 10.0.0.1 " in second, "the router's way is node-a", second, "via 10.0.0.1")


def dumps(guide: Guide) -> dict[str, Background]:
    """Listen at each hop for the packets that open connections."""
    started = {
        hop: guide.start(f"ip netns exec {hop} tcpdump -tqnli eth0 '{FLAGS}'", told=index == 0)
        for index, hop in enumerate(HOPS)
    }
    for hop, dump in started.items():
        guide.wait(lambda dump=dump: "listening" in dump.log(), f"tcpdump to listen in {hop}")  # type: ignore[misc]
    return started


def seen(guide: Guide, hops: dict[str, Background], hop: str, words: str) -> tuple[str, str]:
    """Show the packet with these words, as soon as tcpdump has told of it at a hop; return its source and target."""

    def find() -> str:
        return next((line for line in hops[hop].log().splitlines() if words in line), "")

    packet = guide.wait(find, f"tcpdump in {hop} to see a packet with {words!r}")
    guide.printed(f"{hop:<12} {packet}")
    source, _, target = packet.removeprefix("IP ").partition(": ")[0].partition(" > ")
    return source, target


def request(guide: Guide, _: Any) -> None:
    guide.step(
        "The request",
        """While it is made, tcpdump listens at the client, on both nodes' ends and in the pods, for the packets that
        open a connection and for those that answer them (SYN and SYN-ACK). The client's port is given, to be
        recognized.""",
    )
    hops = dumps(guide)
    answer = guide.run(f"""\
        ip netns exec client curl -sS --local-port {PORT} \\
            http://shop.example.com/order""")
    guide.claim_that(answer.startswith("I am order-1\n"), "the pod order-1 answered", answer, "I am order-1")
    there(guide, hops)
    tables(guide)
    at_haproxy(guide, hops)
    back(guide, hops)


def there(guide: Guide, hops: dict[str, Background]) -> None:
    guide.step(
        "To the ingress' pod: kproxy's rules",
        """Before node-a decides where the packet is to go, kproxy's rules write the address of the ingress' pod into
        it. Its source stays, as the Service says externalTrafficPolicy: Local. Only this first packet meets the
        rules.""",
    )
    guide.run(f"""\
        ip netns exec node-a \\
            kproxy explain {EDGE}:80 --from {CLIENT}""", show=service.without_rules)  # fmt: skip
    targets = [seen(guide, hops, hop, f"{CLIENT}.{PORT} >")[1] for hop in HOPS[:3]]
    command = "ip netns exec node-a conntrack -L -p tcp --dport 80"
    guide.wait(lambda: re.search(f"TIME_WAIT.*sport={PORT} ", guide.look(command)), "the connection to be closed")
    entries = guide.run(command, show=grep(f"sport={PORT} "))
    entry = (CLIENT, EDGE, INGRESS, CLIENT)
    guide.claim("until it comes to node-a it is for 203.0.113.90, in the pod for 10.244.0.80", targets,
                [f"{EDGE}.80", f"{EDGE}.80", f"{INGRESS}.80"])  # fmt: skip
    guide.claim_that(entry in flows(entries), "conntrack has both names of the connection", flows(entries), entry)


def tables(guide: Guide) -> None:
    guide.step(
        "What HAProxy was told",
        """HAProxy ends the client's connection and reads the request. Of Kubernetes it knows nothing; it has tables,
        which kproxy wrote and changes while it runs, through a socket. The host leads to a word, the word and the
        path to a backend: by the table of exact paths first, else by the longest prefix. A backend is a list of
        pods.""",
    )
    explained = guide.run("kproxy explain http://shop.example.com/order")
    output = guide.run("""\
        ask() { echo "$*" | socat - /run/kproxy-ingress/worker.sock |
                    sed -n 's/^0x[0-9a-f]* //p'; }
        ask show map maps/$(cd /run/kproxy-ingress/current/maps; ls | grep f80)
        ask show map maps/exact""")
    found = dict(line.split() for line in output.splitlines())
    backend = found.get(found.get("shop.example.com", "") + "/order", "")
    servers = guide.run(f"""\
        echo show servers conn {backend} |
            socat - /run/kproxy-ingress/worker.sock | grep -o '{backend}/[^ ]*'""")
    guide.claim_that("Ingress shop/shop, rule 0" in explained and f"{POD}:8080" in explained,
                     "the Ingress means that pod of order", explained, "Ingress shop/shop, rule 0")  # fmt: skip
    guide.claim(
        "and HAProxy's tables lead there: shop.example.com and /order, a backend, the pod",
        servers.split(),
        [f"{backend}/{POD}:8080"],
    )


def at_haproxy(guide: Guide, hops: dict[str, Background]) -> None:
    guide.step(
        "From the ingress' pod: a new connection",
        """HAProxy connects to the pod, straight: there is no ClusterIP in this packet, and no rule for it. Node-a has
        a route to the pods of node-b.""",
    )
    source, target = seen(guide, hops, "pod-order-1", f" > {POD}.8080:")
    way = guide.run(f"ip -n node-a route get {POD}", show=lambda text: text.splitlines()[:1])
    entries = guide.look("ip netns exec node-a conntrack -L -p tcp --dport 8080 2>/dev/null")
    plain = (INGRESS, POD, POD, INGRESS)
    guide.claim("HAProxy asks the pod, as itself", (source.rpartition(".")[0], target), (INGRESS, f"{POD}.8080"))
    guide.claim_that("via 10.0.0.2 " in way, "the way to the pod leads through node-b", way, "via 10.0.0.2")
    guide.claim_that(plain in flows(entries), "and no address of this connection is rewritten", flows(entries), plain)


def back(guide: Guide, hops: dict[str, Background]) -> None:
    guide.step(
        "And back",
        """The pod answers the ingress, which answers the client: from 10.244.0.80, an address that the client never
        spoke to. But the answer leaves by node-a, where conntrack knows the connection, and it comes to the client from
        203.0.113.90.""",
    )
    seen(guide, hops, "pod-order-1", f"{POD}.8080 >")
    sources = [seen(guide, hops, hop, f" > {CLIENT}.{PORT}:")[0] for hop in ("pod-ingress", "node-a", "client")]
    guide.claim("from node-a on, the answer comes from whom the client asked", sources,
                [f"{INGRESS}.80", f"{EDGE}.80", f"{EDGE}.80"])  # fmt: skip
    for dump in hops.values():
        dump.stop()


def stable(text: str) -> str:
    """Without what is another at each run: ports that the kernel picks, ages, identities of sockets."""
    text = re.sub(r"\b(?!40001\b)(3[2-9]|4\d|5\d|60)\d{3}\b", "PORT", text)
    return re.sub(r"(tcp +6 )\d+", r"\1N", text)


STEPS = (name, routes, request)
