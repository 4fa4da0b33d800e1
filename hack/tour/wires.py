"""Chapter 1. A machine is a network namespace; a cable is a veth pair; a switch is a bridge; the rest is routes."""

import json
from typing import Any

from hack.tour.chapters import Story
from hack.tour.guide import Guide

PICTURE = """
     red              green             blue
  192.168.1.1      192.168.1.2      192.168.1.3
     eth0             eth0             eth0
      |                |                |          veth pairs: cables
   veth-red        veth-green       veth-blue
      |                |                |
  ----+----------------+----------------+----
                  bridge br0                       a switch
"""
PORTS = 3


def neighbours(guide: Guide, namespace: str) -> dict[str, str]:
    """Hardware addresses by IP address, as the namespace has learned them by ARP."""
    entries = json.loads(guide.look(f"ip -n {namespace} -json neighbour show") or "[]")
    return {entry["dst"]: entry.get("lladdr", "") for entry in entries if ":" not in entry["dst"]}


def hardware(guide: Guide, namespace: str) -> str:
    (link,) = json.loads(guide.look(f"ip -n {namespace} -json link show eth0"))
    return str(link["address"])


def heard(output: str) -> bool:
    """Whether all pings that were sent came back."""
    return " 0% packet loss" in output


def summary(output: str) -> list[str]:
    """The line that counts, of what ping prints."""
    return [line for line in output.splitlines() if "packets transmitted" in line]


def namespaces(guide: Guide, _: Any) -> None:
    guide.step(
        "Three namespaces",
        """A network namespace has interfaces, addresses, routes, sockets and filter rules of its own. As far as a
        packet can tell, that is all there is to a machine. Three new ones, each with nothing but a loopback interface,
        and that one switched off.""",
    )
    guide.run("ip netns add red; ip netns add green; ip netns add blue")
    listed = guide.run("ip netns list")
    links = guide.run("ip -n red -brief link")
    guide.claim("there are three of them", set(listed.split()) & {"red", "green", "blue"}, {"red", "green", "blue"})
    guide.claim("red has no interface but lo", [line.split()[:2] for line in links.splitlines()], [["lo", "DOWN"]])


def cables(guide: Guide, _: Any) -> None:
    guide.step(
        "Three cables",
        """A veth pair is two interfaces and the cable between them: what goes in at one end comes out at the other. One
        end of each goes into a namespace and is called eth0 there, as the network card of a machine would be; the other
        stays here.""",
    )
    guide.run("""\
        ip link add veth-red   type veth peer name eth0 netns red
        ip link add veth-green type veth peer name eth0 netns green
        ip link add veth-blue  type veth peer name eth0 netns blue""")
    guide.run("ip -brief link show type veth")
    guide.run("ip -n red -brief link")
    ends = json.loads(guide.look("ip -n red -json link show eth0")) + json.loads(
        guide.look("ip -json link show veth-red")
    )
    numbers = [(end["ifindex"], end["link_index"]) for end in ends]
    guide.claim("eth0@if… and veth-red@if… name each other by number", numbers[0], numbers[1][::-1])


def switch(guide: Guide, _: Any) -> None:
    guide.step(
        "A switch",
        """A bridge is a switch made by the kernel. The ends that stayed here are plugged into it, and everything is
        switched on: an interface that is down is a cable that is not plugged in.""",
    )
    guide.run("""\
        ip link add br0 type bridge
        ip link set br0 up
        for name in red green blue; do
            ip link set veth-$name master br0
            ip link set veth-$name up
            ip -n $name link set eth0 up
        done""")
    guide.wait(lambda: guide.look("ip -brief link show master br0").count(" UP ") == PORTS, "the ports to be up")
    ports = guide.run("ip -brief link show master br0")
    guide.claim(
        "three ports, all of them up",
        sorted((line.split("@")[0], line.split()[1]) for line in ports.splitlines()),
        [("veth-blue", "UP"), ("veth-green", "UP"), ("veth-red", "UP")],
    )


def addresses(guide: Guide, _: Any) -> None:
    guide.step(
        "Addresses, and a ping",
        """Machines on one switch need no route to find each other, only addresses of one network. The /24 is what says
        so: from it the kernel makes the route `192.168.1.0/24 dev eth0`, that is, "they are all on this cable; just
        ask".""",
    )
    guide.run("""\
        ip -n red   address add 192.168.1.1/24 dev eth0
        ip -n green address add 192.168.1.2/24 dev eth0
        ip -n blue  address add 192.168.1.3/24 dev eth0""")
    routes = guide.run("ip -n red route")
    guide.claim_that(routes.startswith("192.168.1.0/24 dev eth0"), "the kernel made the route by itself", routes, "it")
    for name, number in (("green", 2), ("blue", 3)):
        output = guide.run(f"ip netns exec red ping -c 2 -W 2 -i 0.05 -q 192.168.1.{number}", show=summary)
        guide.claim_that(heard(output), f"red hears {name}", output, "no loss")


def arp(guide: Guide, _: Any) -> None:
    guide.step(
        "How red found green: ARP, and the switch's table",
        """On a cable, frames go to hardware addresses. So before its first packet red called out to all: who has
        192.168.1.2? Green answered, and red keeps the answer. The bridge listened, and knows by now behind which port
        each hardware address is: what red sends to green, blue no longer hears.""",
    )
    guide.run("ip -n red neighbour")
    guide.run("ip -n green -brief link show eth0")
    table = guide.run("bridge fdb show br br0 dynamic")
    green = hardware(guide, "green")
    guide.claim("red knows green's hardware address", neighbours(guide, "red").get("192.168.1.2"), green)
    port = next((line.split()[2] for line in table.splitlines() if line.startswith(green)), None)
    guide.claim("the bridge knows that it is behind veth-green", port, "veth-green")


def no_route(guide: Guide, _: Any) -> None:
    guide.step(
        "Without a route",
        """Blue gets a second address, in another network. The cable is the same, and still red says at once that it is
        unreachable: no route of red's covers the address, so there is no interface to send by.""",
    )
    guide.run("ip -n blue address add 192.168.2.3/24 dev eth0")
    output = guide.run("ip netns exec red ping -c 1 192.168.2.3", expect=2)
    guide.claim_that("unreachable" in output, "red has no way to 192.168.2.3", output, "Network is unreachable")
    guide.claim("and did not even call out for it", "192.168.2.3" in neighbours(guide, "red"), False)


def with_route(guide: Guide, _: Any) -> None:
    guide.step(
        "With one",
        """A route says: for those addresses, hand the packet to that neighbour. Red asks by ARP for the neighbour,
        never for 192.168.2.3 itself, and the packet's destination stays what it was. Blue's answer needs a way back,
        too; it has one, as red is on its own network.""",
    )
    guide.run("ip -n red route add 192.168.2.0/24 via 192.168.1.3")
    way = guide.run("ip -n red route get 192.168.2.3")
    output = guide.run("ip netns exec red ping -c 2 -W 2 -i 0.05 -q 192.168.2.3", show=summary)
    guide.claim_that("via 192.168.1.3 dev eth0" in way, "the way leads through 192.168.1.3", way, "via 192.168.1.3")
    guide.claim_that(heard(output), "red hears 192.168.2.3", output, "no loss")
    known = neighbours(guide, "red")
    guide.claim("red never asked for its hardware address", "192.168.2.3" in known, False)
    guide.remark(
        """That is the whole of it. A pod is such a namespace, its node has such a bridge, and the routes between nodes
        say which node has which pods."""
    )


def take_down(guide: Guide, _: Any) -> None:
    guide.step(
        "Taken down again",
        """With a namespace goes all that is in it. One end of a cable can't be without the other, so the ends here go,
        too.""",
    )
    guide.run("ip netns delete red; ip netns delete green; ip netns delete blue")
    guide.run("ip link delete br0")
    guide.wait(lambda: "veth" not in guide.look("ip -brief link"), "the cables to go")
    left = guide.run("ip -brief link")
    guide.claim("nothing but lo is left", [line.split()[0] for line in left.splitlines()], ["lo"])


STORY = Story(
    opening="""Three machines, three cables, one switch; then a second network, to see what a route is for. Every
    command is shown as one would type it as root, and is run.""",
    picture=PICTURE,
    steps=(namespaces, cables, switch, addresses, arp, no_route, with_route),
    farewell=(take_down,),
)
