"""A Kubernetes cluster's network on one machine, small enough to read: nodes, pods, a client, and real packets.

::

                  client   192.0.2.7 … 192.0.2.10
                     │
        ┌────────────┴──────────────┐
        │ router     192.0.2.1      │   the network between the machines; drops what is for nobody
        │ underlay   10.0.0.254     │
        └─────┬───────────────┬─────┘
              │ eth0          │ eth0
        ┌─────┴─────┐   ┌─────┴─────┐
        │  node-a   │   │  node-b   │   10.0.0.1, 10.0.0.2; routes to each other's pods
        │  kproxy   │   │           │
        │   cni0    │   │   cni0    │   bridges, 10.244.0.1 and 10.244.1.1
        └──┬─────┬──┘   └──┬─────┬──┘
           │     │         │     │      veth11, veth12, … on the node; eth0 in the pod
          pod   pod       pod   pod     10.244.0.11 …, 10.244.1.11 …

Everything has an IPv6 address as well. Read on in this order: `namespaces` (what a machine is here), `addresses` (who
has which), `topology` (the wires, from veth to Service address), `servers` and `clients` (who talks, by `sctp`,
too), `processes` and `kproxy` (programs on a node), `hosts` and `lab` (all of it put together), `leases` (how it goes
away again). `waiting` is for what comes sooner or later, `errors` for what does not work.

::

    with Lab() as lab:
        for name in ("web-1", "web-2"):
            lab.add_pod(name).serve(8080)
        kproxy = lab.node.start_kproxy(manifests=folder)
        kproxy.wait_ready()
        print(lab.pod("web-1").ask_many("10.96.0.10", 80).servers)

``python -m hack.lab`` builds one to walk around in.
"""

from hack.lab.clients import Answer, Connection, Flow, Load, Outcome, Tally
from hack.lab.errors import LabError
from hack.lab.hosts import Host, Node, Pod
from hack.lab.kproxy import Kproxy, select
from hack.lab.lab import Lab
from hack.lab.processes import Process
from hack.lab.servers import Server
from hack.lab.waiting import until

__all__ = [
    "Answer", "Connection", "Flow", "Host", "Kproxy", "Lab", "LabError", "Load", "Node", "Outcome", "Pod", "Process",
    "Server", "Tally", "select", "until",
]  # fmt: skip
