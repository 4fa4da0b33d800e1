"""Chapter 4. A Service's address belongs to nobody; kproxy has the node write a pod's in its place."""

import json
import re
from collections import Counter

from hack.demo.rules import explain
from hack.tour import shop
from hack.tour.chapters import Story
from hack.tour.docker0 import flows, grep
from hack.tour.guide import Guide
from hack.tour.shop import ITEM, ITEM_EXTERNAL, ITEM_NODE_PORT, ITEM_PODS, ITEM_PORT, ORDER, POD_PORT, Shop

PICTURE = """
                client, 192.0.2.7                   outside the cluster
                   |
      -----+-------+-------+-----                   between the machines
           |               |
        node-a          node-b                      10.0.0.1 and 10.0.0.2;
        kproxy             |                        kproxy runs on node-a
      |    |    |          |
  item-1 item-2 order    item-3                     pods; order asks
"""
TIMES = 300
CLIENT, NODE_A = "192.0.2.7", "10.0.0.1"
NODE_ADDRESSES = {NODE_A, "10.244.0.1"}  # one to node-b's pods, the other to its own


def ask(guide: Guide, host: str, address: str, port: int, word: str = "$name") -> Counter[str]:
    """Make requests from a host, and return how they spread: over names, or over what else of an answer is asked for.

    What a server says first is ``NAME SOURCE PORT``: its own name, and whom it sees (`hack.lab.servers`).
    """
    output = guide.run(f"""\
        ip netns exec {host} bash -c 'for i in {{1..{TIMES}}}; do
            read name source port < /dev/tcp/{address}/{port}
            echo {word}
        done' | sort | uniq -c""")
    return Counter({name: int(count) for count, name in (line.split() for line in output.splitlines())})


def fair(guide: Guide, spread: Counter[str], names: set[str]) -> None:
    """Draw how requests spread, and claim that each got its fair share: five standard deviations of a fair draw."""
    guide.bars({name: spread[name] for name in {*names, *spread}})
    mean = TIMES / len(names)
    slack = 5 * (TIMES * (1 / len(names)) * (1 - 1 / len(names))) ** 0.5
    holds = set(spread) == names and all(abs(count - mean) <= slack for count in spread.values())
    guide.claim(f"all {TIMES} were answered", spread.total(), TIMES)
    guide.claim_that(
        holds, "each pod got its fair share, as drawn at random", dict(spread), f"{mean:.0f} ± {slack:.0f}"
    )


def nobody(guide: Guide, _: Shop) -> None:
    guide.step(
        "An address that nobody has",
        """These are the objects: a Service, which has an address, and an EndpointSlice, which says where its pods are.
        The API server gives out the address, controllers keep the slice up to date, and that is all. No interface has
        10.96.0.80, no route names it; what is sent there goes to the node, then on to the rest of the world, and is
        lost.""",
    )
    guide.run("cat shop/item.yaml", show=lambda text: text.splitlines()[1:])
    way = guide.run(f"ip -n pod-order route get {ITEM}")
    guide.run(f"""\
        ip netns exec pod-order timeout 0.3 bash -c \\
            'read name rest < /dev/tcp/{ITEM}/{ITEM_PORT}'""", expect=124)  # fmt: skip
    there = guide.look("ip -all netns exec ip -brief address")
    guide.claim_that("via 10.244.0.1" in way, "the pod sends it to its node, by the default route", way, "10.244.0.1")
    guide.claim("no interface anywhere has the address", ITEM in there, False)
    guide.remark("And nobody answered: timeout ended the wait, with exit code 124.")


def starts(guide: Guide, _: Shop) -> None:
    guide.step(
        "kproxy",
        """It reads the objects, decides what is to become of a connection to each address, and writes that as rules
        into node-a's kernel: chapter 2's DNAT, for a destination that stands for many. It does nothing else; no packet
        ever passes through it.""",
    )
    shop.start_kproxy(guide)
    answer = guide.run(f"""\
        ip netns exec pod-order bash -c \\
            'read name source port < /dev/tcp/{ITEM}/{ITEM_PORT}
             echo I am $name, and you are $source'""")
    name = next((name for name in ITEM_PODS if f"I am {name}," in answer), "")
    guide.claim_that(bool(name), "a pod of item answers", answer, ITEM_PODS)
    guide.claim_that(f"you are {ORDER}" in answer, "and sees order's own address", answer, ORDER)
    entries = guide.run(f"ip netns exec node-a conntrack -L -p tcp --orig-dst {ITEM}", show=grep("ASSURED"))
    expected = (ORDER, ITEM, ITEM_PODS[name][1] if name else "", ORDER)
    guide.claim_that(expected in flows(entries), f"conntrack's entry: order asks the Service, {name} answers",
                     flows(entries), expected)  # fmt: skip


def spread(guide: Guide, _: Shop) -> None:
    guide.step(
        "ClusterIP: lots are drawn",
        f"""{TIMES} connections from the order pod, one after the other. For the first packet of each, the kernel draws
        a pod; conntrack remembers it for the packets that follow.""",
    )
    fair(guide, ask(guide, "pod-order", ITEM, ITEM_PORT), set(ITEM_PODS))


def rules(guide: Guide, _: Shop) -> None:
    guide.step(
        "The rules",
        """The chains and their names are kube-proxy's, so every guide for debugging it applies. A connection meets them
        in this order (comments left out):""",
    )
    saved = guide.run("ip netns exec node-a iptables-legacy-save -t nat", show=lambda _: ())
    steps = list(explain(saved, ITEM, "shop/item:http"))
    for remark, rule in steps:
        guide.remark(f"{remark}:")
        guide.printed(rule)
    guide.claim("there is a rule for each step", [remark for remark, rule in steps if not rule], [])


def explained(guide: Guide, _: Shop) -> None:
    guide.step(
        "The same, in words: kproxy explain",
        """It asks the kproxy that runs on the node what becomes of a connection, and why: which pods it may end at,
        with their shares, and whose address they see. Then it reads the rules that are in the kernel, and walks a
        packet through them; it lists those above and more, with their counters (left out here).""",
    )
    guide.run("ip netns exec node-a kproxy explain shop/item", show=without_rules)
    told = json.loads(guide.look("ip netns exec node-a kproxy explain shop/item -o json"))
    shares = {endpoint["address"]: round(endpoint["share"], 6) for endpoint in told["endpoints"]}
    expected = {f"{ip}:{POD_PORT}": round(1 / len(ITEM_PODS), 6) for _, ip in ITEM_PODS.values()}
    guide.claim("it is forwarded", told["verdict"], "forward")
    guide.claim("each pod has a third of the connections", shares, expected)
    guide.claim("and the kernel's rules come to the same", told["kernel"], "as planned")


def without_rules(text: str) -> list[str]:
    """What explain says, without the connections that there are and the list of rules."""
    decision, _, rest = text.partition("Connections that conntrack holds")
    decision, _, rules = decision.partition("Rules on its way")
    return [*decision.rstrip().splitlines(), "", *(rest or rules).splitlines()[-1:]]


def in_turn(guide: Guide, _: Shop) -> None:
    guide.step(
        "In turn, if it is wished",
        """Textbooks have Services go round robin. kube-proxy's rules only draw lots; here a Service may ask for turns,
        by an annotation, or an administrator for all of them. The rules are the same but for one word: instead of
        drawing, the kernel counts.""",
    )
    nat = "ip netns exec node-a iptables-legacy-save -t nat"
    guide.run("sed -i 's/# annotations/annotations/' shop/item.yaml")
    guide.run("grep annotations shop/item.yaml")
    guide.wait(lambda: "--mode nth" in guide.look(nat), "the rules to count")
    guide.run(nat, show=lambda text: [drop_comment(line) for line in text.splitlines() if "--mode nth" in line])
    output = guide.run(f"""\
        ip netns exec pod-order bash -c 'for i in {{1..9}}; do
            read name source port < /dev/tcp/{ITEM}/{ITEM_PORT}
            echo -n "$name "
        done'""")
    names = output.split()
    guide.bars(Counter(names))
    balancing = guide.run("ip netns exec node-a kproxy explain shop/item | grep balancing")
    rounds = [set(names[start : start + 3]) for start in (0, 3, 6)]
    guide.claim("in each round of three, each pod has its turn", rounds, [set(ITEM_PODS)] * 3)
    guide.claim("always in the same order", names, names[:3] * 3)
    guide.claim_that("in turn" in balancing, "and kproxy explain says so", balancing, "in turn")
    guide.run("sed -i 's/annotations/# annotations/' shop/item.yaml")
    guide.wait(lambda: "--mode nth" not in guide.look(nat), "the rules to draw lots again")


def drop_comment(rule: str) -> str:
    """A rule as iptables-save prints it, without its comment."""
    return re.sub(r' -m comment --comment ("[^"]*"|\S+)', "", rule)


def node_port(guide: Guide, _: Shop) -> None:
    guide.step(
        "NodePort: from outside, through a port of every node",
        """The client outside can't reach 10.96.0.80, but it can reach a node. The pods may answer only through the node
        that the connection came by, or the client would get an answer from somebody it never spoke to; so the node puts
        its own address in the place of the client's.""",
    )
    fair(guide, ask(guide, "client", NODE_A, ITEM_NODE_PORT), set(ITEM_PODS))
    sources = ask(guide, "client", NODE_A, ITEM_NODE_PORT, "$source")
    holds = sources.keys() <= NODE_ADDRESSES and sources.total() == TIMES
    guide.claim_that(holds, f"the pods saw node-a, not {CLIENT}", dict(sources), NODE_ADDRESSES)


def load_balancer(guide: Guide, _: Shop) -> None:
    guide.step(
        "LoadBalancer: an address outside",
        """In a cloud, somebody hangs a load balancer before the nodes and writes its address into the Service's status.
        Here the router sends 203.0.113.80 to node-a, as BGP or a cloud would. kproxy treats it as it does a
        NodePort.""",
    )
    guide.run("cat shop/item.yaml", show=lambda text: [line for line in text.splitlines() if "ingress" in line])
    fair(guide, ask(guide, "client", ITEM_EXTERNAL, ITEM_PORT), set(ITEM_PODS))


def pod_goes(guide: Guide, made: Shop) -> None:
    guide.step(
        "A pod goes",
        """Kubernetes takes a pod out of its Service's slices, and stops it a while later. Order asks all the time;
        item-2 is taken out, and its rules are gone before it is. What it had begun, it may finish, as conntrack has
        it.""",
    )
    load = guide.start(f"""\
        ip netns exec pod-order bash -c \\
            'while :; do
                 name=; read name rest < /dev/tcp/{ITEM}/{ITEM_PORT}
                 echo ${{name:-failed}}; sleep .002
             done'""")
    guide.wait(lambda: set(load.log().split()) == set(ITEM_PODS), "requests to reach all pods")
    guide.run("sed -i /10.244.0.12/d shop/item.yaml")
    nat = "ip netns exec node-a iptables-legacy-save -t nat"
    guide.wait(lambda: "10.244.0.12" not in guide.look(nat), "the rules of item-2 to go")
    drained = all(server.drain() for server in made.lab.pod("item-2").servers)
    made.lab.remove_pod("item-2")
    moved = len(load.log().split())
    guide.wait(lambda: len(load.log().split()) > moved + 100, "requests after it has gone")
    load.stop()
    names = re.findall(r"^\S+$", load.log(), re.MULTILINE)
    fair(guide, ask(guide, "pod-order", ITEM, ITEM_PORT), {"item-1", "item-3"})
    guide.claim(f"of {len(names)} requests made meanwhile, none failed", set(names) - set(ITEM_PODS), set())
    guide.claim("item-2 could finish what it was doing", drained, True)


STORY = Story(
    opening="""A pod's address goes with the pod. A Service has one that stays, and stands for all its pods. How that is
    done is chapter 2's trick, with a draw.""",
    picture=PICTURE,
    steps=(nobody, starts, spread, rules, explained, in_turn, node_port, load_balancer, pod_goes),
    stage=shop.opened,
)
