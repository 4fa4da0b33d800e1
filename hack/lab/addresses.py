"""Who has which address. Every machine of the lab has one of each family, and the two are spelled alike.

====================  =======================  ========================  ======================================
who                   IPv4                     IPv6                      note
====================  =======================  ========================  ======================================
node number n         10.0.0.n                 fd00:a::n                 node-a is number 1, node-b number 2, …
pods of node n        10.244.(n-1).0/24        fd00:244:0:(n-1)::/64     .1 and ::1 are the node's own bridge
services              10.96.0.0/12             fd00:10:96::/112          nobody's: only kproxy's rules know them
the client            192.0.2.7 to .10         2001:db8:c::7 to ::10     several, to be several clients
external, load        203.0.113.0/24,          2001:db8:e::/64           the outside sends these to node-a
balancer addresses    198.51.100.0/24,
                      192.0.2.16/28
====================  =======================  ========================  ======================================

Within an IPv6 address a number is *written* like the IPv4 one: the pod 10.244.0.11 is also fd00:244::11.
"""

from typing import NamedTuple

CLUSTER_CIDR = "10.244.0.0/16"
CLUSTER_CIDR6 = "fd00:244::/56"
SERVICE_CIDR = "10.96.0.0/12"
SERVICE_CIDR6 = "fd00:10:96::/112"

CLIENT_HOSTS = (7, 8, 9, 10)
FIRST_POD_HOST = 11
LAST_POD_HOST = 254

# What the outside believes node-a to be in charge of, beside its own addresses.
SENT_TO_NODE_A = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.16/28", SERVICE_CIDR)
SENT_TO_NODE_A6 = ("2001:db8:e::/64", SERVICE_CIDR6)


class Pair(NamedTuple):
    """The same address in both families."""

    v4: str
    v6: str


class Net(NamedTuple):
    """A network in both families: `v4` and `v6` are the address of host N with ``{}`` in N's place."""

    v4: str
    v4_bits: int
    v6: str
    v6_bits: int

    def host(self, number: int) -> Pair:
        """The addresses of host `number`."""
        return Pair(self.v4.format(number), self.v6.format(number))

    def with_length(self, number: int) -> Pair:
        """The addresses of host `number` with the length of the network's prefix, as an interface carries them."""
        host = self.host(number)
        return Pair(f"{host.v4}/{self.v4_bits}", f"{host.v6}/{self.v6_bits}")

    @property
    def cidr(self) -> Pair:
        """The network itself."""
        return Pair(f"{self.v4.format(0)}/{self.v4_bits}", f"{self.v6.format('')}/{self.v6_bits}")


UNDERLAY = Net("10.0.0.{}", 24, "fd00:a::{}", 64)
OUTSIDE = Net("192.0.2.{}", 28, "2001:db8:c::{}", 64)
ROUTER_ON_UNDERLAY = 254
ROUTER_OUTSIDE = 1


def pod_net(node_number: int) -> Net:
    """The network of the pods on node `node_number` (counted from 1)."""
    subnet = node_number - 1
    v6 = f"fd00:244:0:{subnet}::{{}}" if subnet else "fd00:244::{}"
    return Net(f"10.244.{subnet}.{{}}", 24, v6, 64)
