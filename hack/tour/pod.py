"""Chapter 3. A pod is namespaces that a pause process holds; a network plug-in lays the cable into them."""

import json
from typing import Any

from hack.lab import LabError
from hack.tour.chapters import Story
from hack.tour.docker0 import grep
from hack.tour.guide import Guide
from hack.tour.wires import hardware, heard, summary

PICTURE = """
   pod "order"                              pod "item"
  +------------------------------------+   +---------------+
  |  pause: sleeps, and holds the      |   |  pause        |
  |  namespaces                        |   |               |
  |  web  <---- localhost ----  helper |   |               |
  |                                    |   |               |
  |  eth0, 10.244.0.2                  |   |  eth0, .3     |
  +--------|---------------------------+   +-------|-------+
           |                                       |
       vethXXXX                                vethYYYY
           |                                       |
  ---------+----------------+----------------------+-------
                      cni0, 10.244.0.1
"""
NETWORK = """
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "type": "bridge",
  "bridge": "cni0",
  "isGateway": true,
  "ipMasq": true,
  "hairpinMode": true,
  "ipam": {
    "type": "host-local",
    "dataDir": "/run/cni/networks",
    "ranges": [[{"subnet": "10.244.0.0/24"}]],
    "routes": [{"dst": "0.0.0.0/0"}]
  }
}
"""
LOOPBACK = '{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}'
ORDER, ITEM, NODE = "10.244.0.2", "10.244.0.3", "10.244.0.1"


def result(text: str) -> dict[str, Any]:
    """What a plug-in printed. Raises LabError where it is no result."""
    try:
        found = json.loads(text)
    except ValueError:
        raise LabError(f"the plug-in printed no result: {text.strip()!r}") from None
    if not isinstance(found, dict) or "code" in found:
        raise LabError(f"the plug-in failed: {text.strip()}")
    return found


def links(guide: Guide, where: str = "") -> dict[str, dict[str, Any]]:
    """The interfaces of a namespace, or of the machine, by name."""
    option = f"-n {where} " if where else ""
    return {link["ifname"]: link for link in json.loads(guide.look(f"ip {option}-json link show"))}


def short(text: str) -> list[str]:
    """A plug-in's result with less white space: each interface on a line."""
    found = json.loads(text)
    head, *rest = (f'"{key}": {json.dumps(value)}' for key, value in found.items() if key != "interfaces")
    interfaces = ",\n".join(f"  {json.dumps(one)}" for one in found.get("interfaces", []))
    middle = [f'"interfaces": [\n{interfaces}]'] if interfaces else []
    return ("{" + ",\n ".join([head, *middle, *rest]) + "}").splitlines()


def pause(guide: Guide, _: Any) -> None:
    guide.step(
        "A process that does nothing, on purpose",
        """A namespace lives as long as some process is in it. The containers of a pod may crash and be started again,
        and the pod's address must stay; so a first process makes the namespaces and then sleeps for ever. In a cluster
        it is an image called pause. A name under /run/netns lets others find its network, as container runtimes do
        it.""",
    )
    guide.start("unshare --net --uts --ipc sh -c 'hostname order; exec sleep infinity'", "PAUSE")
    guide.wait(lambda: guide.look("cat /proc/$PAUSE/comm").strip() == "sleep", "the pause process to sleep")
    guide.run("ip netns attach order $PAUSE")
    seen = guide.run("ip -n order -brief address")
    guide.claim("its network is new: lo, and that one down", [line.split()[:2] for line in seen.splitlines()],
                [["lo", "DOWN"]])  # fmt: skip
    spaces = guide.run("readlink /proc/$$/ns/net /proc/$PAUSE/ns/net /proc/$PAUSE/ns/uts")
    guide.claim("and not the machine's", len(set(spaces.split())), 3)


def bridge_plugin(guide: Guide, _: Any) -> None:
    guide.step(
        "A network plug-in, called as kubelet's runtime calls it",
        """CNI is a short agreement: a plug-in is a program; what is to be done it finds in environment variables, the
        network's description on standard input; it answers with JSON. `bridge` lays a cable from a pod to a bridge, and
        asks `host-local`, a plug-in as well, for a free address.""",
    )
    guide.write("pods.json", NETWORK)
    before = links(guide)
    answer = guide.run(
        """\
        export CNI_COMMAND=ADD CNI_CONTAINERID=order CNI_IFNAME=eth0 \\
            CNI_NETNS=/run/netns/order CNI_PATH=/usr/lib/cni
        /usr/lib/cni/bridge < pods.json | tee bridge-result.json""",
        show=short,
    )
    found = result(answer)
    guide.claim("there was no bridge before", "cni0" in before, False)
    guide.claim("the pod's address is the first free one", found["ips"][0]["address"], f"{ORDER}/24")
    kept = guide.run("grep -H . /run/cni/networks/pods/10.244.0.2", show=lambda text: text.splitlines()[:1])
    guide.claim_that("order" in kept, "host-local's whole memory is a file for each address", kept, "order")


def loopback_plugin(guide: Guide, _: Any) -> None:
    guide.step(
        "The loopback plug-in",
        """Switches lo on, and no more. Runtimes call it for every pod before all others; without it there would be no
        localhost.""",
    )
    guide.write("lo.json", LOOPBACK)
    answer = guide.run(
        """\
        CNI_COMMAND=ADD CNI_CONTAINERID=order CNI_IFNAME=lo \\
            CNI_NETNS=/run/netns/order CNI_PATH=/usr/lib/cni \\
            /usr/lib/cni/loopback < lo.json""",
        show=short,
    )
    result(answer)
    seen = guide.run("ip -n order -brief address show lo")
    guide.claim_that("127.0.0.1" in seen, "the pod has a localhost", seen, "127.0.0.1")


def same_wires(guide: Guide, _: Any) -> None:
    guide.step(
        "The wires of chapter 1",
        """Nothing new was invented: a bridge with an address, as docker0 is; a veth pair from it into the pod; a
        default route; a rule to masquerade what leaves the pods' network.""",
    )
    guide.run("ip -brief address show cni0")
    guide.run("ip -brief link show type veth")
    guide.run("ip -n order -brief address show eth0; ip -n order route")
    rules = guide.run(
        "iptables -t nat -S",
        show=lambda text: [line.split(" -m comment")[0] + line.rpartition('"')[2] for line in grep("-A")(text)],
    )
    inside, outside = links(guide, "order")["eth0"], links(guide)
    peer = next(link for link in outside.values() if link["ifindex"] == inside["link_index"])
    guide.claim("the pod's eth0 is one end of a veth pair", peer["ifname"][:4], "veth")
    guide.claim("the other end is a port of the bridge cni0", peer.get("master"), "cni0")
    route = guide.look("ip -n order route")
    guide.claim_that(f"default via {NODE}" in route, "the way out is the bridge's address", route, NODE)
    guide.claim_that("MASQUERADE" in rules, "what leaves is masqueraded", rules, "MASQUERADE")


def localhost(guide: Guide, _: Any) -> None:
    guide.step(
        "Two containers of one pod meet on localhost",
        """A container is a process that is started in the pod's namespaces. Files, processes and limits are its own,
        and no concern of this tour; network, host name and shared memory are the pod's. So one container's 127.0.0.1 is
        the other's, and the machine's is another one.""",
    )
    (guide.folder / "site").mkdir(exist_ok=True)
    (guide.folder / "site" / "index.html").write_text("hello from web\n")
    guide.start(
        """\
        nsenter --target $PAUSE --net --uts --ipc \\
            python3 -m http.server 80 --directory site""",
        "WEB",
    )
    guide.wait_listening(80, "order")
    answer = guide.run("""\
        nsenter --target $PAUSE --net --uts --ipc \\
            sh -c 'hostname; curl -sS http://localhost/'""")
    refused = guide.run("curl -sS http://localhost/", expect=7)
    guide.claim("the helper hears web on localhost, and is on the same host", answer.split("\n")[:2],
                ["order", "hello from web"])  # fmt: skip
    guide.claim_that("connect" in refused, "the machine's localhost is another one", refused, "no connection")


def restarted(guide: Guide, _: Any) -> None:
    guide.step(
        "A container dies, the pod stays",
        """Web is killed and started again, in the same namespaces: the pause process has held them. Same address, same
        hardware address, same cable.""",
    )
    before = hardware(guide, "order")
    guide.run("kill -KILL $WEB")
    guide.wait(lambda: guide.look("ss -N order -Hlnt sport = :80") == "", "web to be gone")
    guide.start(
        """\
        nsenter --target $PAUSE --net --uts --ipc \\
            python3 -m http.server 80 --directory site""",
        "WEB",
    )
    guide.wait_listening(80, "order")
    answer = guide.run("curl -sS http://10.244.0.2/")
    guide.claim("web answers at the address it had", answer.strip(), "hello from web")
    guide.claim("and its hardware address is the same", hardware(guide, "order"), before)


def second_pod(guide: Guide, _: Any) -> None:
    guide.step(
        "A second pod",
        """The same plug-in with another name. Pods see each other's own addresses, on one bridge without any help; how
        they do it across nodes is a matter of routes, as chapter 1 has them.""",
    )
    guide.start("unshare --net --uts --ipc sh -c 'hostname item; exec sleep infinity'", "PAUSE2")
    guide.wait(lambda: guide.look("cat /proc/$PAUSE2/comm").strip() == "sleep", "the pause process to sleep")
    guide.run("ip netns attach item $PAUSE2")
    answer = guide.run(
        """\
        CNI_COMMAND=ADD CNI_CONTAINERID=item CNI_IFNAME=eth0 \\
            CNI_NETNS=/run/netns/item CNI_PATH=/usr/lib/cni \\
            /usr/lib/cni/bridge < pods.json""",
        show=lambda text: [line for line in short(text) if "ips" in line],
    )
    output = guide.run("ip netns exec item ping -c 1 -W 2 -q 10.244.0.2", show=summary)
    answered = guide.run("ip netns exec item curl -sS http://10.244.0.2/")
    guide.claim("the next address", result(answer)["ips"][0]["address"], f"{ITEM}/24")
    guide.claim_that(heard(output), "item hears order", output, "no loss")
    guide.claim("and web's server at its address", answered.strip(), "hello from web")
    client = guide.wait(lambda: grep(ITEM)(guide.look("cat .program-*.log")), "the server's log")
    guide.claim_that(client[-1].startswith(ITEM), "which saw item's own address", client[-1], ITEM)


def host_port(guide: Guide, _: Any) -> None:
    guide.step(
        "A host port: the portmap plug-in",
        """Plug-ins are chained: portmap gets the result of the one before it as prevResult, and the wish of the pod
        (`hostPort: 8080`) as runtimeConfig. What it writes are chapter 2's rules for a published port. Kubernetes'
        NodePort is something else: one port for all pods of a Service, on all nodes.""",
    )
    given = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "portmap",
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]},
        "prevResult": json.loads((guide.folder / "bridge-result.json").read_text()),
    }
    guide.write("portmap.json", "\n".join(short(json.dumps(given))))
    before = guide.look("iptables -t nat -S")
    guide.run(
        """\
        CNI_COMMAND=ADD CNI_CONTAINERID=order CNI_IFNAME=eth0 \\
            CNI_NETNS=/run/netns/order CNI_PATH=/usr/lib/cni \\
            /usr/lib/cni/portmap < portmap.json > /dev/null""",
    )
    rules = guide.run("iptables -t nat -S", show=grep("--dport 8080", "DNAT"))
    answer = guide.run("curl -sS http://10.244.0.1:8080/")
    guide.claim_that("DNAT" not in before, "there was no such rule before", before, "no DNAT")
    guide.claim_that(f"--to-destination {ORDER}:80" in rules, "a DNAT rule leads to the pod", rules, f"{ORDER}:80")
    guide.claim("port 8080 of the machine is web's port 80", answer.strip(), "hello from web")


def taken_back(guide: Guide, _: Any) -> None:
    guide.step(
        "And back: DEL, in reverse order",
        """When a pod ends, the runtime calls the same plug-ins with the same words, the last one first. Nothing of the
        pod may be left: an address that is not given back is lost for ever.""",
    )
    guide.run("""\
        export CNI_COMMAND=DEL CNI_CONTAINERID=order CNI_IFNAME=eth0 \\
            CNI_NETNS=/run/netns/order CNI_PATH=/usr/lib/cni
        /usr/lib/cni/portmap < portmap.json
        /usr/lib/cni/bridge < pods.json
        CNI_IFNAME=lo /usr/lib/cni/loopback < lo.json
        kill -KILL $WEB $PAUSE
        ip netns delete order""")
    guide.run("ls /run/cni/networks/pods")
    rules = guide.look("iptables -t nat -S")
    kept = guide.look("ls /run/cni/networks/pods").split()
    guide.claim("order's address is free again, item's is not", [ip in kept for ip in (ORDER, ITEM)], [False, True])
    guide.claim("the port is nobody's any more", f"{ORDER}:80" in rules, False)
    guide.wait(lambda: len([name for name in links(guide) if name.startswith("veth")]) == 1, "the cable to go")
    left = guide.run("ip -brief link show master cni0", show=lambda text: [line[:60] for line in text.splitlines()])
    guide.claim("one cable is left, item's", len(left.splitlines()), 1)


STORY = Story(
    opening="""What Kubernetes calls a pod is a handful of namespaces, one process that keeps them, and a cable into
    them. The plug-ins are the real ones (Debian's containernetworking-plugins), called as containerd would.""",
    picture=PICTURE,
    steps=(pause, bridge_plugin, loopback_plugin, same_wires, localhost, restarted, second_pod, host_port, taken_back),
)
