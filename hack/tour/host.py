"""Chapter 6. From a host and a path to a pod: one address outside for all, and HTTP says which Service is meant."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy, copytree
from typing import NamedTuple

from hack.lab import Lab
from hack.tour import packet, shop
from hack.tour.chapters import Story
from hack.tour.guide import Background, Guide
from hack.tour.web import WebServer

PICTURE = """
     client, 192.0.2.7:  GET http://shop.example.com/order
        |
        |   203.0.113.90:80                 shop's and api's address
     node-a: kproxy's rules                 which pod has the ingress?
        |   10.244.0.80:80
     ingress: HAProxy, told by kproxy       which Service, which pod?
        |
        +-- shop.example.com  /order  ->  order-1       on node-b
        |                     /item   ->  item-1, item-2, item-3
        |                     /       ->  front-1
        +-- api.example.com   /item   ->  item-1, item-2, item-3
               POST  ->  order-1    x-canary: yes  ->  next-1
"""
PODS = {
    **shop.ITEM_PODS,
    "front-1": ("node-a", "10.244.0.41"),
    "next-1": ("node-a", "10.244.0.42"),
    "order-1": ("node-b", "10.244.1.43"),
}
INGRESS_POD = "10.244.0.80"
HERE = Path(__file__).parent


class Edge(NamedTuple):
    """What the steps play on: the lab, the pods' servers, and the manifests."""

    lab: Lab
    servers: dict[str, WebServer]
    manifests: Path


@contextmanager
def stage(guide: Guide) -> Iterator[Edge]:
    """The shop, served over HTTP; a pod for the ingress; kproxy on node-a; and outside, somebody who knows its name."""
    with Lab(lease=shop.whole_world()) as lab:
        servers = {name: WebServer(lab.add_pod(name, *where)) for name, where in PODS.items()}
        lab.add_pod("ingress", "node-a", INGRESS_POD)
        manifests = Path(copytree(HERE / "shop", guide.folder / "shop"))
        for file in sorted((HERE / "edge").iterdir()):
            copy(file, manifests)
        yield Edge(lab, servers, manifests)


def who(line: str) -> str:
    """The pod's name in the first line of its answer."""
    return line.partition("I am ")[2].strip()


def names_outside(guide: Guide) -> None:
    """A DNS server of the world outside, for the client."""
    copy(HERE / "outside.zone", guide.folder)
    server = guide.start("""\
        ip netns exec client python3 -m hack.tour.dns --listen 192.0.2.7 \\
            --zone-file outside.zone""")
    guide.wait(lambda: "listening" in server.log(), "the DNS server to listen")
    Path("/etc/netns/client").mkdir(parents=True)
    Path("/etc/netns/client/resolv.conf").write_text("nameserver 192.0.2.7\n")


def one_address(guide: Guide, _: Edge) -> None:
    guide.step(
        "One address for all hosts",
        """A Service of type LoadBalancer for each of the shop's Services would take an address for each. Here there is
        one, and behind it a pod that understands HTTP. It is reached as in chapter 4: kproxy turns the address into the
        pod's. Outside, both host names have that address.""",
    )
    guide.run("cat shop/edge.yaml", show=lambda text: text.splitlines()[2:14])
    shop.start_kproxy(guide)
    names_outside(guide)
    refused = guide.run("ip netns exec client curl -sS http://shop.example.com/", expect=7)
    ingress = guide.start("ip netns exec pod-ingress kproxy ingress --manifests shop")
    guide.wait(lambda: _answers(guide), "the ingress to serve", ingress)
    answer = guide.run("ip netns exec client curl -sS http://shop.example.com/")
    guide.claim_that("connect" in refused, "before, nobody listened in the pod", refused, "no connection")
    guide.claim("now the shop's front page answers", who(answer.splitlines()[0]), "front-1")
    guide.claim_that("x-forwarded-for: 192.0.2.7" in answer.lower(), "and knows who asked: 192.0.2.7", answer,
                     "X-Forwarded-For: 192.0.2.7")  # fmt: skip


def _answers(guide: Guide) -> bool:
    command = "ip netns exec client curl -s -m 1 -w '%{http_code}' http://shop.example.com/ || true"
    return guide.look(command).endswith("200")


def paths(guide: Guide, _: Edge) -> None:
    guide.step(
        "By path",
        """An Ingress says which Service is meant by which path. Exact is that path and no other. Prefix goes by whole
        elements: /item is the path of /item/7, but not of /items. The longest one wins, so `/` gets what is left. A
        host that no object names is 404.""",
    )
    guide.run("cat shop/ingress.yaml", show=lambda text: text.splitlines()[8:])
    output = guide.run("""\
        ip netns exec client bash -c \\
            'for path in / /order /order/ /item /item/7 /items; do
                 printf "%-8s" $path
                 curl -sS http://shop.example.com$path | head -n 1
             done'""")
    found = {line.split()[0]: re.sub(r"item-\d", "item", who(line)) for line in output.splitlines()}
    expected = {
        "/": "front-1", "/order": "order-1", "/order/": "front-1", "/item": "item", "/item/7": "item",
        "/items": "front-1",
    }  # fmt: skip
    guide.claim("each path led where the Ingress says", found, expected)
    code = guide.run(f"""\
        ip netns exec client curl -s -o /dev/null -w '%{{http_code}}\\n' \\
            -H 'Host: other.example.com' http://{packet.EDGE}/""")
    guide.claim("a host that nobody named is not found", code.strip(), "404")


def canary(guide: Guide, _: Edge) -> None:
    guide.step(
        "By method, header and query",
        """HTTPRoute, the younger API, can say more. Here the next release of item is for those who ask for it, by a
        header or in the query; and who sends something (POST) is led to order. The rest of /item goes to item, as
        before.""",
    )
    guide.run("cat shop/route.yaml", show=lambda text: text.splitlines()[8:])
    output = guide.run("""\
        ip netns exec client bash -c \\
            'ask() { echo "$(curl -sS "$@" | head -n 1), by $*"; }
             ask http://api.example.com/item
             ask -H x-canary:yes http://api.example.com/item
             ask http://api.example.com/item?preview=1
             ask -d 1 http://api.example.com/item'""")
    found = [re.sub(r"item-\d", "item", who(line).split(",")[0]) for line in output.splitlines()]
    guide.claim("plain; by header; by query; by method", found, ["item", "next-1", "next-1", "order-1"])


def tls(guide: Guide, _: Edge) -> None:
    guide.step(
        "TLS",
        """The Ingress names a Secret with the host's certificate. It is made here, and put beside the other objects;
        the ingress takes it up as it runs. From there on it is HTTP again: the certificate is the edge's
        business.""",
    )
    guide.run("""\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \\
            -nodes -days 30 -keyout tls.key -out tls.crt -subj /CN=shop \\
            -addext subjectAltName=DNS:shop.example.com""", show=lambda _: ())  # fmt: skip
    guide.run("""\
        cat > shop/secret.yaml <<END
        apiVersion: v1
        kind: Secret
        metadata: {name: shop-tls, namespace: shop}
        type: kubernetes.io/tls
        data:
          tls.crt: $(base64 -w 0 tls.crt)
          tls.key: $(base64 -w 0 tls.key)
        END""")
    guide.wait(lambda: "I am" in guide.look(f"{CURL_TLS} -s -m 1 || true"), "the certificate to be taken up")
    stranger = guide.run("ip netns exec client curl -sS https://shop.example.com/", expect=60,
                         show=lambda text: text.splitlines()[:1])  # fmt: skip
    answer = guide.run(CURL_TLS)
    guide.claim_that("certificate" in stranger, "who does not know the certificate does not trust it", stranger, "no")
    guide.claim("who does is served", who(answer.splitlines()[0]), "front-1")
    guide.claim_that("x-forwarded-proto: https" in answer.lower(), "the pod is told that it was https", answer,
                     "X-Forwarded-Proto: https")  # fmt: skip


CURL_TLS = """\
ip netns exec client curl -sS --cacert tls.crt https://shop.example.com/"""


def on_one_connection(guide: Guide, _: Edge) -> None:
    guide.step(
        "Request by request",
        """A Service of chapter 4 draws a pod for a connection, and all that is sent on it goes there. The ingress knows
        where a request ends, and picks a pod for each: it does not go through item's ClusterIP, but knows its
        pods.""",
    )
    output = guide.run("""\
        ip netns exec client curl -sS -w '%{num_connects} connections\\n' \\
            'http://shop.example.com/item?[1-12]' | grep -e 'I am' -e conn |
            sort | uniq -c""")
    counts = {words: int(count) for count, words in (line.split(maxsplit=1) for line in output.splitlines())}
    guide.claim("curl made one connection for twelve requests",
                (counts.get("1 connections"), counts.get("0 connections")), (1, 11))  # fmt: skip
    pods = {words for words in counts if words.startswith("I am")}
    guide.claim_that(len(pods) > 1, "and they went to different pods", pods, "more than one")


def endpoints(guide: Guide, made: Edge) -> None:
    guide.step(
        "A pod goes and comes, under load",
        """So the ingress must follow the EndpointSlices as kproxy does. item-2 is taken out while requests are made, is
        stopped, and comes back. HAProxy is told of each change through a socket; it is not started anew.""",
    )
    before = haproxies(guide)
    load = guide.start("""\
        ip netns exec client bash -c \\
            'while :; do
                 curl -sS -m 5 --rate 100/s -w "%{http_code}\\n" \\
                     "http://shop.example.com/item?[1-20]"
             done'""")
    guide.wait(lambda: "item-2" in pods_of(load), "requests to reach all pods", load)
    guide.run("cp shop/item.yaml item.yaml; sed -i /10.244.0.12/d shop/item.yaml")
    moved = len(pods_of(load))
    guide.wait(lambda: "item-2" not in pods_of(load)[max(moved, len(pods_of(load)) - MOVED_AFTER) :]
               and len(pods_of(load)) > moved + MOVED_AFTER, "requests to avoid item-2", load)  # fmt: skip
    made.servers["item-2"].stop()
    stopped = len(pods_of(load))
    guide.wait(lambda: len(pods_of(load)) > stopped + MOVED_AFTER, "requests after it has gone", load)
    made.servers["item-2"] = WebServer(made.lab.pod("item-2"))
    between = pods_of(load)[stopped:]
    guide.run("mv item.yaml shop/item.yaml")
    back = len(pods_of(load))
    guide.wait(lambda: "item-2" in pods_of(load)[back:], "requests to reach the new item-2", load)
    load.stop()
    codes = re.findall(r"^(\d{3}|curl: .*)$", load.log(), re.MULTILINE)
    guide.bars(Counter(pods_of(load)))
    guide.claim(f"of {len(codes)} requests none failed", Counter(codes), {"200": len(codes)})
    guide.claim("none reached item-2 while it was away", "item-2" in between, False)
    guide.claim("and HAProxy is the same process as before", haproxies(guide), before)


def haproxies(guide: Guide) -> list[str]:
    """HAProxy's processes."""
    return sorted(guide.look("grep -l '^haproxy$' /proc/[0-9]*/comm").split())


def pods_of(load: Background) -> list[str]:
    """Who has answered so far."""
    return re.findall(r"^I am (\S+)$", load.log(), re.MULTILINE)


MOVED_AFTER = 40  # requests in a row that must not meet a pod: by chance, once in ten million tries

STORY = Story(
    opening="""A Service takes an address for each, and knows only addresses and ports. Web sites have names and paths.
    One storey higher somebody reads the request, and then decides.""",
    picture=PICTURE,
    steps=(one_address, paths, canary, tls, on_one_connection, endpoints, *packet.STEPS),
    stage=stage,
)
