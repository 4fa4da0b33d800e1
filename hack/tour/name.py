"""Chapter 5. From a name to an address: what a container finds in its environment, and what it asks the DNS for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy
from typing import Any

from hack.tour import shop
from hack.tour.chapters import Story
from hack.tour.docker0 import flows, grep
from hack.tour.guide import Background, Guide
from hack.tour.shop import ITEM, ITEM_PODS, ORDER, Shop

PICTURE = """
   order, 10.244.0.31                    1  item?  ->  10.96.0.10:53
     search shop.svc.cluster.local           ...      <- 10.96.0.80
     nameserver 10.96.0.10               2  GET /   ->  10.96.0.80:80
      |
   node-a: kproxy's rules turn
      |    10.96.0.10:53 into 10.244.1.53:53      the DNS server's pod
      |    10.96.0.80:80 into 10.244.0.11:8080    a pod of item
   ---+----------------+------------
                     node-b
                       |
                     dns, 10.244.1.53: looks at the same objects
"""
DNS, DNS_POD = "10.96.0.10", "10.244.1.53"
RESOLV_CONF = """
nameserver 10.96.0.10
search shop.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
"""
FULL = "item.shop.svc.cluster.local"
IN_ORDER = "ip netns exec pod-order"


@contextmanager
def stage(guide: Guide) -> Iterator[Shop]:
    """The shop with kproxy, a pod for the DNS server, and somebody outside who knows example.com."""
    with shop.opened(guide) as made:
        made.lab.add_pod("dns", "node-b", DNS_POD)
        for name in ("outside.zone", "coupon.yaml"):
            copy(Path(__file__).with_name(name), guide.folder)
        yield made


def answers(output: str) -> list[str]:
    """The lines of dig's that are records, with one space between their parts."""
    return [" ".join(line.split()) for line in output.splitlines() if line and not line.startswith(";")]


def only(*parts: str) -> Any:
    """Of what dig prints, the status, the records and what else is named."""
    return lambda output: [
        line.expandtabs() for line in output.splitlines()
        if line and (not line.startswith(";") or any(part in line for part in ("status:", *parts)))
    ]  # fmt: skip


def status(output: str) -> str:
    found = re.search(r"status: (\w+)", output)
    return found[1] if found else ""


def by_environment(guide: Guide, _: Shop) -> None:
    guide.step(
        "The older way: environment variables",
        """When a kubelet starts a container, it puts each Service of the pod's namespace that has a ClusterIP into its
        environment, and the API server's. The second kind, ITEM_PORT_…, is what Docker once did for linked containers.
        So the order pod finds item without asking anybody.""",
    )
    guide.run("cat shop/item.yaml", show=lambda text: text.splitlines()[1:15])
    shop.start_kproxy(guide)
    guide.run("python3 -m hack.tour.envvars shop --namespace shop > order.env")
    made_for_item = guide.run("grep ITEM order.env")
    names = {line.partition("=")[0] for line in guide.look("cat order.env").splitlines()}
    guide.claim_that("ITEM_SERVICE_HOST=10.96.0.80" in made_for_item, "item is in it", made_for_item, ITEM)
    others = {name.partition("_")[0] for name in names}
    guide.claim("so is the API server; db and pay, which have no ClusterIP, are not", others, {"ITEM", "KUBERNETES"})
    server = guide.run(f"""\
        {IN_ORDER} env $(cat order.env) bash -c \\
            'read name rest < /dev/tcp/$ITEM_SERVICE_HOST/$ITEM_SERVICE_PORT
             echo $name'""")
    guide.claim_that(server.strip() in ITEM_PODS, "with it, a container reaches a pod of item", server, ITEM_PODS)


def the_catch(guide: Guide, _: Shop) -> None:
    guide.step(
        "Its catch",
        """The environment of a process is made once, at its start. Here a container of order's runs; then the Service
        coupon is made. The container will never hear of it, unless it is started anew; and the other way round, what is
        gone stays in it. Order of creation should not matter, so hardly anybody uses these variables any more.""",
    )
    guide.start(f"{IN_ORDER} env $(cat order.env) sleep infinity", "ORDER")
    guide.wait(lambda: "ITEM" in guide.look("tr '\\0' '\\n' < /proc/$ORDER/environ"), "the container to run")
    guide.run("cp coupon.yaml shop/; cat shop/coupon.yaml", show=lambda text: text.splitlines()[1:])
    running = guide.run("tr '\\0' '\\n' < /proc/$ORDER/environ | grep COUPON_SERVICE", expect=1)
    started = guide.run("python3 -m hack.tour.envvars shop --namespace shop | grep COUPON_SERVICE")
    guide.claim("the running container does not know coupon", running, "")
    guide.claim_that(
        "COUPON_SERVICE_HOST=10.96.0.81" in started, "one that is started now would", started, "10.96.0.81"
    )


def serving(guide: Guide, _: Shop) -> None:
    guide.step(
        "A DNS server in a pod, a Service in front of it",
        """It looks at Services and EndpointSlices as kproxy does, and makes names of them. The kubelet writes its
        Service's address into each pod's resolv.conf; to reach it, the pod needs kproxy, as for any other Service.""",
    )
    server = guide.start("""\
        ip netns exec pod-dns python3 -m hack.tour.dns --manifests shop \\
            --listen 10.244.1.53 --forward 192.0.2.7""")
    outside = guide.start("""\
        ip netns exec client python3 -m hack.tour.dns --listen 192.0.2.7 \\
            --zone-file outside.zone""")
    for program in (server, outside):
        guide.wait(lambda program=program: "listening" in program.log(), "the DNS servers to listen")  # type: ignore[misc]
    Path("/etc/netns/pod-order").mkdir(parents=True)
    Path("/etc/netns/pod-order/resolv.conf").write_text(RESOLV_CONF.lstrip())
    guide.run(f"{IN_ORDER} cat /etc/resolv.conf")
    output = guide.run(f"{IN_ORDER} dig {FULL}", show=only("SERVER"))
    guide.claim("the name is item's ClusterIP", answers(output), [f"{FULL}. 5 IN A {ITEM}"])
    guide.claim_that(f"SERVER: {DNS}#53" in output, "the answer comes from the Service's address", output, DNS)
    guide.run("ip netns exec node-a conntrack -L -p udp --dport 53", show=grep("dport=53"))
    seen = flows(guide.look("ip netns exec node-a conntrack -L -p udp --dport 53"))
    guide.claim_that((ORDER, DNS, DNS_POD, ORDER) in seen, "kproxy's rules turned the query to the DNS server's pod",
                     seen, (ORDER, DNS, DNS_POD, ORDER))  # fmt: skip


def search(guide: Guide, _: Shop) -> None:
    guide.step(
        "Search domains: why `item` is enough",
        """resolv.conf has a list of domains that are tried in turn. The first is the pod's own namespace: `item` there
        is this namespace's item. `item.shop` works from every namespace, by the second. The search is done by the
        client; dig does it only if told to (+search).""",
    )
    output = guide.run(f"{IN_ORDER} dig +search +noall +answer item", show=answers)
    other = guide.run(f"{IN_ORDER} dig +search +noall +answer item.shop", show=answers)
    guide.claim("item is found in the pod's own namespace", answers(output), [f"{FULL}. 5 IN A {ITEM}"])
    guide.claim("item.shop by the second domain", answers(other), [f"{FULL}. 5 IN A {ITEM}"])
    server = guide.run(f"""\
        {IN_ORDER} bash -c \\
            'read name rest < /dev/tcp/item/80; echo $name'""")
    guide.claim_that(server.strip() in ITEM_PODS, "and connecting to `item` ends at one of its pods", server, ITEM_PODS)


def queries(guide: Guide, dump: Background, name: str, more: str) -> list[str]:
    """Ask for a name, and show the names that the DNS server's pod was asked for meanwhile."""
    before = len(dump.log().splitlines())
    guide.run(f"{IN_ORDER} dig {more}+noall +answer {name}", show=answers)
    wanted = f" A? {name.rstrip('.')}. "
    lines = guide.wait(lambda: _asked(dump.log().splitlines()[before:], wanted), "tcpdump to see the query")
    guide.printed("\n".join(lines))
    return lines


def _asked(lines: list[str], last: str) -> list[str]:
    asked = [f"  A? {found[1]}" for line in lines if (found := re.search(r" A\? (\S+) ", line))]
    return asked if any(last in line for line in lines) else []


def ndots(guide: Guide, _: Shop) -> None:
    guide.step(
        "ndots:5, and its price",
        """A name with fewer than five dots is first tried with each search domain, so that item.shop.svc.cluster.local
        needs no dot at its end. The price: for www.example.com there are three questions in vain before the right one.
        A dot at the end saves them. For other names the server asks others, here the one outside.""",
    )
    dump = guide.start("ip netns exec pod-dns tcpdump -tnli eth0 udp and dst 10.244.1.53")
    guide.wait(lambda: "listening" in dump.log(), "tcpdump to listen")
    long = queries(guide, dump, "www.example.com", "+search ")
    short = queries(guide, dump, "www.example.com.", "")
    guide.claim("without the dot at the end there were four questions", len(long), 4)
    guide.claim("with it, one", len(short), 1)
    output = guide.look(f"{IN_ORDER} dig +noall +answer www.example.com.")
    guide.claim("and the answer is the outside's", answers(output), ["www.example.com. 300 IN A 192.0.2.80"])


def ports_and_ways_back(guide: Guide, _: Shop) -> None:
    guide.step(
        "More than addresses: SRV and PTR",
        """A port with a name has an SRV record: priority, weight, port, and whose. And from an address back to the name
        leads a PTR record.""",
    )
    srv = guide.run(f"{IN_ORDER} \\\n    dig +short _http._tcp.{FULL} SRV")
    ptr = guide.run(f"{IN_ORDER} dig +short -x {ITEM}")
    version = guide.run(f"{IN_ORDER} dig +short dns-version.cluster.local TXT")
    guide.claim("item's port http is 80", srv.split(), ["0", "100", "80", f"{FULL}."])
    guide.claim("10.96.0.80 is item", ptr.strip(), f"{FULL}.")
    guide.claim("the names are made by version 1.1.0 of the specification", version.strip(), '"1.1.0"')


def headless(guide: Guide, _: Shop) -> None:
    guide.step(
        "Headless: the name means the pods",
        """`clusterIP: None` is for those who want the pods themselves, a database's replicas say. There is nothing for
        kproxy to do: the name has each ready pod's address, and each pod with a host name has a name of its own.""",
    )
    db = "db.shop.svc.cluster.local"
    all_of_them = guide.run(f"{IN_ORDER} dig +short {db}")
    one = guide.run(f"{IN_ORDER} dig +short db-1.{db}")
    srv = guide.run(f"{IN_ORDER} dig +short _sql._tcp.{db} SRV")
    guide.claim("db is both pods", sorted(all_of_them.split()), ["10.244.0.21", "10.244.1.21"])
    guide.claim("db-1 is one of them", one.strip(), "10.244.1.21")
    guide.claim("the SRV record has both by name", sorted(line.split()[-1] for line in srv.splitlines()),
                [f"db-0.{db}.", f"db-1.{db}."])  # fmt: skip


def external(guide: Guide, _: Shop) -> None:
    guide.step(
        "A name for somebody else: ExternalName",
        """A Service that is nothing but another name: a CNAME record. The server follows it, and asks the outside for
        the rest.""",
    )
    output = guide.run(f"{IN_ORDER} dig +noall +answer pay.shop.svc.cluster.local", show=answers)
    guide.claim("pay is pay.example.com, whose address the outside knows", answers(output),
                ["pay.shop.svc.cluster.local. 5 IN CNAME pay.example.com.",
                 "pay.example.com. 300 IN A 192.0.2.8"])  # fmt: skip


def nothing(guide: Guide, _: Shop) -> None:
    guide.step(
        "Two ways to find nothing",
        """NXDOMAIN: there is no such name; a client goes on with the next search domain. NODATA, that is no error and
        no answer: there is such a name, but nothing of that type; a client stops. A server that says NXDOMAIN for a
        Service's missing IPv6 address makes its IPv4 one unreachable for half of all programs.""",
    )
    missing = guide.run(f"{IN_ORDER} dig nothing.shop.svc.cluster.local", show=only())
    without = guide.run(f"{IN_ORDER} dig {FULL} AAAA", show=only("AUTHORITY: "))
    guide.claim("there is no Service `nothing`", (status(missing), answers(missing)[:-1]), ("NXDOMAIN", []))
    guide.claim("item is there, without an IPv6 address", (status(without), answers(without)[:-1]), ("NOERROR", []))


def changes(guide: Guide, _: Shop) -> None:
    guide.step(
        "It follows",
        """The pod db-1 is not ready any more, and its address is gone from the name with the next question. Some want
        it to stay, to find their peers before they are ready: publishNotReadyAddresses. And coupon, which was made
        after the container started, is there.""",
    )
    db = "db.shop.svc.cluster.local"

    guide.run("sed -i '/hostname: db-1/ s/}/, conditions: {ready: false}}/' shop/db.yaml")
    left = guide.run(f"{IN_ORDER} dig +short {db}")
    guide.run(r"sed -i '/clusterIP: None/ a\  publishNotReadyAddresses: true' shop/db.yaml")
    again = guide.run(f"{IN_ORDER} dig +short {db}")
    coupon = guide.run(f"{IN_ORDER} dig +short coupon.shop.svc.cluster.local")
    guide.claim("db is one pod", left.split(), ["10.244.0.21"])
    guide.claim("with publishNotReadyAddresses, it is two again", len(again.split()), 2)
    guide.claim("coupon has a name", coupon.strip(), "10.96.0.81")


STORY = Story(
    opening="""Addresses of Services do not change, but nobody wants to write them down. There are two ways from a name
    to an address: one that is made at a container's start, and one that is asked for.""",
    picture=PICTURE,
    steps=(
        by_environment,
        the_catch,
        serving,
        search,
        ndots,
        ports_and_ways_back,
        headless,
        external,
        nothing,
        changes,
    ),
    stage=stage,
)
