"""Chapter 2. What Docker does for its containers: a bridge that is their way out, and NAT at the machine's door."""

import re
from collections.abc import Callable
from typing import Any

from hack.tour.chapters import Story
from hack.tour.guide import Guide
from hack.tour.wires import heard, summary

PICTURE = """
       box1             box2
     172.17.0.2       172.17.0.3
       eth0             eth0
        |                |
   -----+----------------+-----
      docker0, 172.17.0.1          the machine: it passes packets on,
      eth0, 203.0.113.1            and changes addresses at its door
             |
             |
      eth0, 203.0.113.9            outside: knows nothing of 172.17.0.0/16
"""
OUTSIDE, MACHINE, BOX1, BOX2 = "203.0.113.9", "203.0.113.1", "172.17.0.2", "172.17.0.3"


def flows(text: str) -> list[tuple[str, ...]]:
    """The connections in what ``conntrack -L`` printed: source and destination of either direction."""
    lines = [re.findall(r"(?:src|dst)=(\S+)", line) for line in text.splitlines()]
    return [tuple(found) for found in lines if found]


def grep(*words: str) -> Callable[[str], list[str]]:
    """Of what a command prints, the lines with any of these words in them."""
    return lambda output: [line for line in output.splitlines() if any(word in line for word in words)]


def machine(guide: Guide, _: Any) -> None:
    guide.step(
        "A machine with a network card, and the outside",
        """The machine here is this chapter's own network namespace. Another one plays the rest of the world. It knows
        the machine's address and no others behind it.""",
    )
    guide.run("""\
        ip netns add outside
        ip link add eth0 type veth peer name eth0 netns outside
        ip address add 203.0.113.1/24 dev eth0
        ip link set eth0 up
        ip -n outside address add 203.0.113.9/24 dev eth0
        ip -n outside link set eth0 up""")
    output = guide.run("ping -c 1 -W 2 -q 203.0.113.9", show=summary)
    guide.claim_that(heard(output), "the machine hears the outside", output, "no loss")


def bridge(guide: Guide, _: Any) -> None:
    guide.step(
        "docker0: a bridge with an address",
        """With an address, a bridge is an interface of the machine as well, plugged into its own switch. It is the
        containers' default route: whatever is not for one of them is handed to the machine.""",
    )
    guide.run("""\
        ip link add docker0 type bridge
        ip address add 172.17.0.1/16 dev docker0
        ip link set docker0 up
        for n in 1 2; do
            ip netns add box$n
            ip link add veth$n type veth peer name eth0 netns box$n
            ip link set veth$n master docker0
            ip link set veth$n up
            ip -n box$n link set lo up
            ip -n box$n link set eth0 up
            ip -n box$n address add 172.17.0.$((n + 1))/16 dev eth0
            ip -n box$n route add default via 172.17.0.1
        done""")
    routes = guide.run("ip -n box1 route")
    guide.claim_that("default via 172.17.0.1" in routes, "the machine is box1's way out", routes, "a default route")
    output = guide.run("ip netns exec box1 ping -c 1 -W 2 -q 172.17.0.1", show=summary)
    guide.claim_that(heard(output), "box1 hears the machine", output, "no loss")


def no_way_back(guide: Guide, _: Any) -> None:
    guide.step(
        "Out, but not back",
        """A machine passes on packets of others only if it is told to. Told so, it does, and the packet gets out. But
        it comes from 172.17.0.2, an address that nobody outside can answer: it is private, and every Docker host has
        the same.""",
    )
    guide.run("echo 1 > /proc/sys/net/ipv4/ip_forward")
    dump = guide.start("ip netns exec outside tcpdump -tnli eth0 -c 1 icmp")
    guide.wait(lambda: "listening" in dump.log(), "tcpdump to listen")
    output = guide.run("ip netns exec box1 ping -c 1 -W 0.3 -q 203.0.113.9", expect=1, show=summary)
    packet = guide.wait(lambda: grep("IP ")(dump.log()), "tcpdump to see the packet")[0]
    guide.printed(packet)
    seen = f"{BOX1} > {OUTSIDE}: ICMP echo request"
    guide.claim_that(seen in packet, "the packet arrives outside, from box1's own address", packet, seen)
    guide.claim_that("100% packet loss" in output, "and nothing comes back", output, "loss")


def masquerade(guide: Guide, _: Any) -> None:
    guide.step(
        "MASQUERADE: be the machine to the outside",
        """This rule is Docker's own: what comes from the containers' network and leaves by another interface than
        docker0 gets the machine's address as its source. Until now the kernel kept no account of connections; since
        there is a NAT rule it does, as it must know whom an answer is for. That account is conntrack's.""",
    )
    before = guide.run("conntrack -L")
    guide.run("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")
    dump = guide.start("ip netns exec outside tcpdump -tnli eth0 -c 1 icmp")
    guide.wait(lambda: "listening" in dump.log(), "tcpdump to listen")
    output = guide.run("ip netns exec box1 ping -c 1 -W 2 -q 203.0.113.9", show=summary)
    packet = guide.wait(lambda: grep("IP ")(dump.log()), "tcpdump to see the packet")[0]
    guide.printed(packet)
    after = guide.run("conntrack -L -p icmp")
    guide.claim("before, conntrack had no entry", flows(before), [])
    guide.claim_that(heard(output), "now box1 hears the outside", output, "no loss")
    seen = f"{MACHINE} > {OUTSIDE}: ICMP echo request"
    guide.claim_that(seen in packet, "which saw the machine's address", packet, seen)
    entry = (BOX1, OUTSIDE, OUTSIDE, MACHINE)
    guide.claim_that(
        entry in flows(after),
        "conntrack's entry has both: box1 asks the outside, and the outside answers the machine",
        flows(after),
        entry,
    )


def among_themselves(guide: Guide, _: Any) -> None:
    guide.step(
        "Among themselves they stay who they are",
        """`! -o docker0` leaves alone what stays on the bridge. Containers see each other's own addresses; so will
        pods.""",
    )
    dump = guide.start("ip netns exec box2 tcpdump -tnli eth0 -c 1 icmp")
    guide.wait(lambda: "listening" in dump.log(), "tcpdump to listen")
    guide.run("ip netns exec box1 ping -c 1 -W 2 -q 172.17.0.3", show=summary)
    packet = guide.wait(lambda: grep("IP ")(dump.log()), "tcpdump to see the packet")[0]
    guide.printed(packet)
    seen = f"{BOX1} > {BOX2}: ICMP echo request"
    guide.claim_that(seen in packet, "box2 sees box1", packet, seen)


def published(guide: Guide, _: Any) -> None:
    guide.step(
        "A published port: docker run -p 8080:80",
        """From outside, nobody can address a container. So the machine lends it a port: what comes for one of the
        machine's own addresses (`--dst-type LOCAL`) at port 8080 gets box2's address and port as its destination.
        PREROUTING is where that must happen: before the kernel asks whether a packet is for itself or to be passed
        on.""",
    )
    (guide.folder / "site").mkdir(exist_ok=True)
    (guide.folder / "site" / "index.html").write_text("hello from box2\n")
    guide.start("ip netns exec box2 python3 -m http.server 80 --directory site")
    guide.wait_listening(80, "box2")
    refused = guide.run("ip netns exec outside curl -sS http://203.0.113.1:8080/", expect=7)
    guide.run("""\
        iptables -t nat -N DOCKER
        iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 8080 \\
            -j DNAT --to-destination 172.17.0.3:80""")
    answer = guide.run("ip netns exec outside curl -sS http://203.0.113.1:8080/")
    guide.claim_that(
        "refuse" in refused or "connect" in refused, "before, nobody was at home there", refused, "refused"
    )
    guide.claim("now box2 answers", answer.strip(), "hello from box2")


def back_again(guide: Guide, _: Any) -> None:
    guide.step(
        "Why the answer finds back",
        """Box2 answers 203.0.113.9, from 172.17.0.3; the outside would not know what to do with that, as it asked
        203.0.113.1. But box2's way out is the machine, which finds the connection in its account, sees that the answer
        is due from 203.0.113.1 port 8080, and writes that into the packet. No rule says so: rules are asked for the
        first packet of a connection only. A Service of Kubernetes is just this, with more than one box.""",
    )
    entries = guide.run("conntrack -L -p tcp", show=grep("dport=8080"))
    expected = (OUTSIDE, MACHINE, BOX2, OUTSIDE)
    guide.claim_that(
        expected in flows(entries), "the entry: outside asks the machine, and box2 answers", flows(entries), expected
    )
    ports = set(re.findall(r"sport=(80|8080)\b|dport=(80|8080)\b", entries))
    guide.claim("port 8080 on one side, 80 on the other", ports, {("", "8080"), ("80", "")})
    served = guide.look("cat .program-*.log")
    guide.claim_that(
        f"{OUTSIDE} - - " in served, f"box2's own log names the client {OUTSIDE}: only the destination changed",
        served, OUTSIDE,
    )  # fmt: skip


def all_rules(guide: Guide, _: Any) -> None:
    guide.step(
        "All of Docker's network, in rules",
        """On a machine with Docker, the same command shows the same lines, with one more for each published port.""",
    )
    rules = guide.run("iptables -t nat -S", show=grep("-A ", "-N "))
    guide.claim("three rules and a chain", [rules.count(word) for word in ("\n-A ", "\n-N ")], [3, 1])


STORY = Story(
    opening="""A container sees a small private network, and still reaches the world and is reached from there. Two
    rules do it, and the kernel's memory of connections.""",
    picture=PICTURE,
    steps=(machine, bridge, no_way_back, masquerade, among_themselves, published, back_again, all_rules),
)
