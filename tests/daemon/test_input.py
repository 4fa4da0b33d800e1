"""What bad input gets, through the real command line: one clear line, the remedy, and a fitting exit code."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from hack.lab import Kproxy, Lab, until
from hack.lab.addresses import CLUSTER_CIDR, CLUSTER_CIDR6
from hack.lab.processes import Process
from tests.kit.packets import PATIENCE, PORT, TARGET_PORT, service, slices

pytestmark = pytest.mark.kernel

KPROXY = (sys.executable, "-m", "kproxy")
OK, FAILED, USAGE = 0, 1, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    (folder / "bad-value.conf").write_text(f"{head}iptables:\n  masqueradeBit: 99\n")
    (folder / "no-yaml.conf").write_text(f"{head}\tclusterCIDR: 10.244.0.0/16\n")
    (folder / "unknown.conf").write_text(f"{head}clusterCDIR: 10.244.0.0/16\n")
    (folder / "no.kubeconfig").write_text("clusters: [\n")
    (folder / "manifests").mkdir()
    (folder / "manifests" / "nothing.yaml").write_text("# an empty folder is worth a warning\n")
    return folder


# Arguments, with FILES for the folder of files above; exit code; what the one line must say.
ENDED = {
    "unknown flag": ("run --cluster-cdir 1.2.3.0/24", USAGE, "'--cluster-cdir'; did you mean --cluster-cidr"),
    "unknown command": ("frobnicate", USAGE, "'frobnicate'"),
    "flag with a bad value": ("run --cluster-cidr 10.244.0.0", USAGE, "--cluster-cidr: .*'10.244.0.0' is not a CIDR"),
    "no such config file": ("run --config FILES/none", USAGE, "FILES/none: No such file or directory"),
    "config file with a bad value": ("run --config FILES/bad-value.conf", USAGE, r"masqueradeBit.*99"),
    "config file that is no YAML": ("run --config FILES/no-yaml.conf", USAGE, "FILES/no-yaml.conf:3: "),
    "no such kubeconfig": ("run --kubeconfig FILES/none", FAILED, "FILES/none cannot be read: No such file"),
    "kubeconfig that is no YAML": ("run --kubeconfig FILES/no.kubeconfig", FAILED, "FILES/no.kubeconfig:2: "),
    "nowhere to take objects from": ("run", FAILED, "use --kubeconfig FILE or --master URL, or --manifests DIR"),
    "no such folder": ("run --manifests FILES/none", FAILED, "FILES/none: no such folder"),
    "nothing to render": ("render -f FILES/none", USAGE, "FILES/none: cannot be read: No such file"),
}


def complaints(log: str) -> list[str]:
    """What is more than a piece of information, and all of what is no line of the log."""
    return [line for line in log.splitlines() if not re.match(r"\S+Z info ", line)]


def complaint(process: Kproxy | Process) -> str:
    """The one there is, or is soon: the rules are in force a moment before anything is told."""
    until(lambda: bool(complaints(process.log())), PATIENCE, "a complaint")
    (line,) = complaints(process.log())
    return line


@pytest.fixture(scope="module")
def ended(lab: Lab, files: Path) -> dict[str, Process]:
    """All of them at once: most of their time is Python's start."""
    return {
        case: lab.node.start([*KPROXY, *args.replace("FILES", str(files)).split()])
        for case, (args, _, _) in ENDED.items()
    }


@pytest.mark.parametrize("case", list(ENDED))
def test_what_no_waiting_can_cure_ends_kproxy_with_one_line(ended: dict[str, Process], files: Path, case: str) -> None:
    _, code, words = ENDED[case]
    assert ended[case].wait(PATIENCE) == code
    (line,) = complaints(ended[case].log())
    assert re.search(words.replace("FILES", re.escape(str(files))), line), line


# Without the right to do it.

# Not root, but able to read this project's files wherever they are.
NOBODY = (
    "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps +dac_read_search --ambient-caps +dac_read_search"
)


@pytest.mark.parametrize("command", ["run --manifests FILES/manifests", "cleanup"])
def test_without_root_it_says_what_it_needs(lab: Lab, files: Path, command: str) -> None:
    args = command.replace("FILES", str(files)).split()
    done = lab.node.run([*NOBODY.split(), *KPROXY, *args], check=False)
    assert done.returncode == FAILED
    lines = complaints(done.stdout + done.stderr)
    assert len(lines) <= (1 if "run" in command else 3)  # there are three engines whose rules are to be removed
    assert lines
    assert all("NET_ADMIN" in line and "run it as root" in line for line in lines)


def test_rendering_needs_no_rights_at_all(lab: Lab, files: Path) -> None:
    (files / "objects.yaml").write_text(
        "kind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.10, ports: []}\n"
    )
    done = lab.node.run([*NOBODY.split(), *KPROXY, "render", "-f", str(files / "objects.yaml")])
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.startswith("*filter\n")


# Ports in use.


@contextmanager
def taken(lab: Lab, port: int) -> Iterator[None]:
    server = lab.node.serve(port, name="squatter")
    try:
        yield
    finally:
        server.close()


@pytest.fixture
def web(lab: Lab, files: Path) -> Iterator[None]:
    """A Service to see kproxy at work by, which does not work yet."""
    if "web" not in lab.pods:
        lab.add_pod("web").serve(TARGET_PORT)
        objects = [service("web", 10), *slices("web", [lab.pod("web")])]
        (files / "manifests" / "web.yaml").write_text(yaml.safe_dump_all(objects))
    yield
    lab.node.clean_up()


def answered(lab: Lab, ip: str = "10.96.0.10") -> str:
    return lab.node.ask(ip, PORT, timeout=0.2).server


def start(lab: Lab, files: Path, *args: str) -> Kproxy:
    state = ["--state-directory", str(lab.folder / "state")]
    return lab.node.start_kproxy(manifests=files / "manifests", args=[*state, *args])


@pytest.mark.usefixtures("web")
@pytest.mark.parametrize(("server", "port"), [("metrics", 10249), ("health", 10256)])
def test_a_port_in_use_is_named_and_keeps_no_service_from_working(
    lab: Lab, files: Path, server: str, port: int
) -> None:
    with taken(lab, port):
        kproxy = start(lab, files)
        until(lambda: answered(lab), PATIENCE, "the service to answer")
        line = complaint(kproxy)
        assert f"{lab.node.ip}:{port}" in line
        assert "in use" in line
        assert server in line
    assert kproxy.stop() == OK


@pytest.mark.usefixtures("web")
def test_with_hard_fail_a_port_in_use_ends_kproxy(lab: Lab, files: Path) -> None:
    with taken(lab, 10256):
        kproxy = start(lab, files, "--bind-address-hard-fail")
        assert kproxy.process.wait(PATIENCE) == FAILED
    (line,) = complaints(kproxy.log())
    assert f"{lab.node.ip}:10256" in line


@pytest.mark.usefixtures("web")
def test_an_unknown_field_is_named_and_does_not_matter(lab: Lab, files: Path) -> None:
    """As with kube-proxy: a ConfigMap written for a newer version must not bring a node down."""
    kproxy = start(lab, files, "--config", str(files / "unknown.conf"))
    kproxy.wait_ready(PATIENCE)
    line = complaint(kproxy)
    assert "unknown.conf:3: unknown field clusterCDIR; did you mean clusterCIDR?" in line
    assert kproxy.stop() == OK


# Without iptables in the kernel.

# Runs a program on a kernel that knows nothing of these families' tables: a seccomp filter answers all that one can ask
# of ip_tables by getsockopt as a kernel without it does. Source: seccomp(2), linux/filter.h.
WITHOUT_TABLES = """
import ctypes, errno, os, platform, struct, sys

LOAD, EQUAL, NOT_LESS, RETURN = 0x20, 0x15, 0x35, 0x06
GETSOCKOPT = {"x86_64": 55, "aarch64": 209}[platform.machine()]
NUMBER, LEVEL, OPTION = 0, 24, 32  # offsets in struct seccomp_data
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.ENOPROTOOPT

levels = [int(level) for level in sys.argv[1].split(",")]
program = [(LOAD, 0, 0, NUMBER), (EQUAL, 0, len(levels) + 3, GETSOCKOPT)]
program += [(LOAD, 0, 0, OPTION), (NOT_LESS, 0, len(levels) + 1, 64), (LOAD, 0, 0, LEVEL)]
program += [(EQUAL, len(levels) - at, 0, level) for at, level in enumerate(levels)]
program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(Program(len(program), ctypes.addressof(code)))) == 0  # PR_SET_SECCOMP
os.execv(sys.argv[2], sys.argv[2:])
"""
IPV4, IPV6 = 0, 41


def start_without(lab: Lab, files: Path, *levels: int, variant: str = "auto") -> Process:
    before = (sys.executable, "-c", WITHOUT_TABLES, ",".join(map(str, levels)))
    args = ("--hostname-override", "node-a", "--healthz-bind-address", ":0", "--metrics-bind-address", ":0")
    more = ("--cluster-cidr", f"{CLUSTER_CIDR},{CLUSTER_CIDR6}", "--iptables-variant", variant)
    return lab.node.start([*before, *KPROXY, "run", "--manifests", str(files / "manifests"), *args, *more])


@pytest.mark.usefixtures("web")
def test_a_kernel_without_iptables_is_said_to_be_one(lab: Lab, files: Path) -> None:
    process = start_without(lab, files, IPV4, IPV6, variant="legacy")
    assert process.wait(PATIENCE) == FAILED
    (line,) = complaints(process.log())
    assert "modprobe ip_tables" in line


@pytest.mark.usefixtures("web")
def test_on_a_kernel_without_legacy_tables_the_nft_variant_serves(lab: Lab, files: Path) -> None:
    """RHEL 10 has none, and without a kubelet nothing else tells."""
    lab.node.clean_up("--iptables-variant", "legacy")
    process = start_without(lab, files, IPV4, IPV6)
    until(lambda: answered(lab), PATIENCE, "the service to answer")
    assert "using iptables variant=nft" in process.log()
    assert complaints(process.log()) == []
    assert process.stop(PATIENCE) == OK
    lab.node.clean_up("--iptables-variant", "nft")


@pytest.mark.usefixtures("web")
def test_one_family_is_served_where_the_kernel_has_no_other(lab: Lab, files: Path) -> None:
    process = start_without(lab, files, IPV6)
    until(lambda: answered(lab), PATIENCE, "the service to answer in IPv4")
    line = complaint(process)
    assert "ipv6" in line
    assert "modprobe ip6_tables" in line
    assert process.stop(PATIENCE) == OK
