"""The image, built from the Dockerfile, serves a node with the rights that the manifests give it, and no more.

The pod is that of the overlay kubeadm (with metrics within reach), container by container, as the kubelet would run it:
with kube-proxy's ConfigMap and a service account's token.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.lab import Kproxy, LabError, Process
from tests.kit.apiserver.kinds import Json
from tests.kit.deploy.containers import Mount, bundle
from tests.kit.deploy.manifests import find, render
from tests.kit.packets import PORT, PROTOCOLS, Exposed, World, assert_all, each_family, each_protocol, nodes
from tests.kit.paths import ROOT

pytestmark = [pytest.mark.image, pytest.mark.kernel]

HERE = Path(__file__).parent
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
WEB = ("web-1", "web-2", "web-3")

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: {url}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
"""
"""As kubeadm writes it into the ConfigMap."""


class KubeletLike:
    """Runs the containers of a pod on the lab's node-a."""

    def __init__(self, world: World, root: Path, folder: Path, mode: str) -> None:
        self._world = world
        self._root = root
        self._folder = folder
        template = find(render(HERE / "monitored"), "DaemonSet")["spec"]["template"]
        self.pod: Json = template["spec"]
        config = folder / "config"
        config.mkdir()
        text = (ROOT / "tests" / "config" / "samples" / "kubeadm.conf").read_text()
        (config / "config.conf").write_text(text.replace('mode: ""', f'mode: "{mode}"'))
        (config / "kubeconfig.conf").write_text(KUBECONFIG.format(url=world.server.url))
        state = folder / "state"
        state.mkdir()
        self._volumes = {
            "config": config,
            "xtables-lock": world.lab.node.xtables_lock,
            "state": state,
            "lib-modules": folder / "modules",
        }
        self._volumes["lib-modules"].mkdir()

    def start(self, container: Json) -> Process:
        """Start one container."""
        node = self._world.lab.node
        values = {"NODE_NAME": node.name, "POD_IP": node.ip}
        env = {one["name"]: one.get("value") or values[one["name"]] for one in container["env"]}
        env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        args = [re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], arg) for arg in container["args"]]
        mounts = [
            Mount(self._volumes[one["name"]], one["mountPath"], one.get("readOnly", False))
            for one in container["volumeMounts"]
        ]
        mounts.append(Mount(self._world.server.service_account, SERVICE_ACCOUNT, read_only=True))
        name = f"{container['name']}-{os.urandom(3).hex()}"
        made = bundle(
            self._folder / name,
            self._root,
            args=[*container.get("command", ["/usr/local/bin/kproxy"]), *args],
            env=env,
            security=self.pod["securityContext"] | container["securityContext"],
            mounts=mounts,
        )
        return node.start(made.command)


@pytest.fixture(scope="module", params=["legacy", "nft", "nftables"])
def variant(request: pytest.FixtureRequest) -> str:
    """What the rules are written with: one of iptables' variants, or mode nftables."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def kubelet(idle_world: World, root: Path, variant: str, tmp_path_factory: pytest.TempPathFactory) -> KubeletLike:
    node = idle_world.lab.node
    if variant == "nft":  # as the kubelet tells containers which variant the node uses
        for program in ("iptables-nft", "ip6tables-nft"):
            node.run([program, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
    mode = variant if variant == "nftables" else ""
    return KubeletLike(idle_world, root, tmp_path_factory.mktemp("kubelet"), mode)


@pytest.fixture(scope="module")
def world(idle_world: World, kubelet: KubeletLike) -> Iterator[World]:
    """The lab with the image's kproxy at work on node-a."""
    (init,) = kubelet.pod["initContainers"]
    started = kubelet.start(init)
    try:
        assert started.wait(30) == 0, started.log()
    except LabError as error:
        raise LabError(f"{error}: {started.log()}") from None
    assert "Traceback" not in started.log()
    (container,) = kubelet.pod["containers"]
    node = idle_world.lab.node
    idle_world.kproxy = Kproxy(kubelet.start(container), node.namespace, node.ip)
    idle_world.settle()
    yield idle_world
    if idle_world.kproxy.process.exit_code is None:
        assert idle_world.kproxy.stop() == 0
    assert "Traceback" not in idle_world.kproxy.log()
    # By the image, too: what its libnftables wrote may be too new for this machine's.
    assert kubelet.start(container | {"args": ["cleanup"]}).wait(30) == 0
    idle_world.control.replace_all(nodes(idle_world.lab))


@pytest.fixture(scope="module")
def shop(world: World) -> Exposed:
    pods = [world.lab.pod(name) for name in WEB]
    return world.expose("shop", 10, pods, protocols=PROTOCOLS, type="NodePort")


def inner_process(kproxy: Kproxy) -> int:
    """The id of kproxy itself; the lab started the runtime, whose child it is."""
    (child,) = Path(f"/proc/{kproxy.process.pid}/task/{kproxy.process.pid}/children").read_text().split()
    return int(child)


@each_protocol
@each_family
def test_pods_reach_services(world: World, shop: Exposed, family: str, protocol: str) -> None:
    tally = world.lab.pod("asker").ask_many(shop.ip(family), PORT, protocol, times=90)
    assert_all(tally, servers=WEB)


def test_the_outside_reaches_node_ports(world: World, shop: Exposed) -> None:
    for ip in (world.lab.node.ip, world.lab.node.ip6):
        assert_all(world.lab.client.ask_many(ip, shop.node_port, times=60), servers=WEB)


def test_it_writes_where_the_node_or_its_configuration_wants_it(world: World, shop: Exposed, variant: str) -> None:
    node = world.lab.node
    rules = {
        name: node.run([f"iptables-{name}-save", "-t", "nat"]).stdout.count(shop.ip("ipv4"))
        for name in ("legacy", "nft")
    }
    # By the node's own nft, which may be older than the image's library (1.0.6 on Debian 12) and must not crash on it.
    rules["nftables"] = node.run(["nft", "list", "ruleset"]).stdout.count("table ip kproxy ")
    assert {name for name, count in rules.items() if count} == {variant}


def test_the_probes_of_the_manifest_say_yes(world: World, kubelet: KubeletLike) -> None:
    (container,) = kubelet.pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[name]["httpGet"]
        assert world.kproxy.get(probe["path"], ports[probe["port"]])[0] == 200
    assert "kproxy_build_info" in world.kproxy.get("/metrics", ports["metrics"])[1]


def test_whoever_may_exec_in_its_pod_may_ask_it(world: World, kubelet: KubeletLike, shop: Exposed) -> None:
    """With the rights and mounts of the pod's container, as ``kubectl exec POD -- kproxy explain`` has them."""
    (container,) = kubelet.pod["containers"]
    asked = kubelet.start(container | {"args": ["explain", f"{shop.ip('ipv4')}:{PORT}"]})
    assert asked.wait(30) == 0, asked.log()
    assert "The kernel does as planned" in asked.log()
    for command, said in (("status", f"on {world.lab.node.name}: well"), ("diff", "")):
        asked = kubelet.start(container | {"args": [command]})
        assert asked.wait(30) == 0, asked.log()
        assert said in asked.log()


def test_it_has_two_capabilities_cannot_get_more_and_cannot_write(world: World) -> None:
    pid = inner_process(world.kproxy)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    net_admin_and_net_raw = f"{1 << 12 | 1 << 13:016x}"
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {net_admin_and_net_raw}
    assert status["NoNewPrivs"] == "1"
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    options = {mount[4]: mount[5].split(",")[0] for mount in mounts}
    assert options["/"] == "ro"
    assert options["/proc/sys"] == "ro"
    on_disk = {place for place, mode in options.items() if mode == "rw" and not place.startswith(("/proc", "/dev"))}
    assert on_disk == {"/run/xtables.lock", "/run/kproxy"}


def test_it_warns_of_nothing_but_settings_that_are_not_its_to_make(world: World) -> None:
    warned = [line for line in world.kproxy.log().splitlines() if " warning " in line or " error " in line]
    # The node of the lab has both families, the configuration (kubeadm's, of a cluster with IPv4 alone) one range.
    not_its_own = ("could not be set", "reason=NoClusterCIDR")
    assert not [line for line in warned if not any(words in line for words in not_its_own)]


def test_what_its_rights_do_not_reach_the_init_container_has_set(world: World) -> None:
    with world.lab.node.namespace.entered():
        assert Path("/proc/sys/net/ipv4/conf/all/route_localnet").read_text() == "1\n"
        assert Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait").read_text() == "3600\n"
    assert "set a sysctl" not in world.kproxy.log()


def test_a_stopped_container_leaves_its_rules_and_the_next_one_goes_on_from_them(
    world: World, shop: Exposed, kubelet: KubeletLike
) -> None:
    asker = world.lab.pod("asker")
    with asker.connect(shop.ip("ipv4"), PORT) as held, asker.load(shop.ip("ipv4"), PORT) as load:
        assert world.kproxy.stop() == 0
        assert_all(asker.ask_many(shop.ip("ipv4"), PORT, times=60), servers=WEB)
        node = world.lab.node
        world.kproxy = Kproxy(kubelet.start(kubelet.pod["containers"][0]), node.namespace, node.ip)
        world.settle()
        assert held.echo()
    assert not load.tally.failures
