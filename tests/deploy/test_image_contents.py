"""What the image holds: all that kproxy needs, and nothing to build with; small, and quick to start."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from kproxy import __version__
from tests.kit.deploy.containers import Mount, run
from tests.kit.deploy.image import Image
from tests.kit.paths import ROOT

pytestmark = [pytest.mark.image, pytest.mark.kernel]

MEGABYTE = 1_000_000


def packages(root: Path) -> Path:
    """Where its Python packages are."""
    (folder,) = (root / "opt/kproxy/lib").glob("python3*/site-packages")
    return folder


def inside(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["chroot", str(root), *command], capture_output=True, text=True, check=False)


def test_a_command_line_of_kube_proxys_works_whether_as_arguments_or_as_a_command(image: Image, root: Path) -> None:
    assert image.inspect()["config"]["Entrypoint"] == ["/usr/local/bin/kproxy"]
    assert (root / "usr/local/bin/kube-proxy").is_symlink()
    assert (root / "usr/local/bin/kube-proxy").readlink() == Path("kproxy")


@pytest.mark.parametrize("command", ["kproxy", "kube-proxy"])
def test_without_any_rights_it_renders(root: Path, tmp_path: Path, command: str) -> None:
    manifests = ROOT / "hack" / "demo" / "shop"
    files = [f"/manifests/{path.name}" for path in manifests.glob("*.yaml")]
    done = run(
        tmp_path / "bundle",
        root,
        [f"/usr/local/bin/{command}", "render", "--hostname-override", "node-a", "-f", *files],
        user=65534,
        mounts=[Mount(manifests, "/manifests", read_only=True)],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "shop/web:http" in done.stdout


def test_it_is_of_this_version_and_small(image: Image, root: Path) -> None:
    assert list(packages(root).glob(f"kproxy-{__version__}.dist-info"))
    size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < 130 * MEGABYTE
    assert image.inspect()["config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_holds_what_is_locked(root: Path) -> None:
    """Parts may be left out, packages not."""
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+) \\$", (ROOT / "lock/run.txt").read_text(), re.MULTILINE))
    program = "import importlib.metadata as m\nfor d in m.distributions(): print(d.name, d.version)"
    lines = inside(root, "/opt/kproxy/bin/python", "-c", program).stdout.splitlines()
    found = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in map(str.split, lines)}
    assert found.pop("kproxy") == __version__
    assert found == locked


def test_it_has_nothing_to_build_or_install_with(root: Path) -> None:
    for program in ("gcc", "cc", "make", "strip", "pip", "pip3", "apt", "apt-get", "perl", "openssl", "su", "mount"):
        for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/kproxy/bin"):
            assert not (root / folder / program).exists(), program


def test_people_who_look_at_what_is_wrong_find_their_tools(root: Path) -> None:
    for program in ("bash", "cat", "ls", "find", "grep", "sed", "iptables-save", "ip6tables-nft-save", "modprobe"):
        assert inside(root, program, "--version").returncode == 0, program


def test_what_it_says_of_its_packages_is_true(root: Path) -> None:
    """Scanners read it. What was left out is not on the list, and what is on the list is there and whole."""
    lines = inside(root, "dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n").stdout.splitlines()
    states = dict(map(str.split, lines))
    assert set(states.values()) == {"installed"}
    assert states.keys() >= {"iptables", "libnftables1", "kmod", "python3", "libc6", "base-files"}
    assert not states.keys() & {"apt", "perl-base", "login", "passwd", "util-linux", "libpam0g"}
    audit = inside(root, "dpkg", "--audit")
    assert (audit.returncode, audit.stdout) == (0, "")
    missing = re.findall("^missing +(?:[cd] )?(.*)$", inside(root, "dpkg", "--verify").stdout, re.MULTILINE)
    shared = "doc|locale|man|info|lintian|bug|fish|bash-completion|pixmaps|polkit-1"
    left_out = rf"/usr/share/({shared})/|/usr/lib/[^/]*/gconv/|/var/"
    assert [path for path in missing if not re.match(left_out, f"{path}/")] == []


def test_licences_are_still_there(root: Path) -> None:
    assert (root / "usr/share/doc/iptables/copyright").exists()
    assert (root / "usr/share/common-licenses/GPL-2").exists()
    assert list(packages(root).glob("aiohttp-*.dist-info/licenses/*"))


def test_every_library_that_a_program_or_module_loads_is_there(root: Path) -> None:
    tops = ("usr/bin", "usr/sbin", "usr/lib", "opt/kproxy")
    files = [path for top in tops for path in (root / top).rglob("*") if path.is_file() and not path.is_symlink()]
    binaries = [path for path in files if path.read_bytes().startswith(b"\x7fELF")]
    assert len(binaries) > 100
    listed = inside(root, "ldd", *(f"/{path.relative_to(root)}" for path in binaries)).stdout
    assert listed.count(".so") > len(binaries)
    missing = [line for line in listed.splitlines() if line.startswith("/") or "not found" in line]
    assert [f"{who} {line}" for who, line in pairwise(missing) if "not found" in line] == []


def test_every_module_of_kproxys_can_be_imported(root: Path) -> None:
    """But for kproxy ingress, which has an image of its own."""
    top = packages(root)
    files = [path.relative_to(top) for path in (top / "kproxy").rglob("*.py") if path.name != "__main__.py"]
    modules = [".".join(path.with_suffix("").parts) for path in files if path.parts[1] != "ingress"]
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    done = inside(root, "/opt/kproxy/bin/python", "-c", program, *modules)
    assert len(modules) > 100
    assert (done.returncode, done.stderr) == (0, "")


def test_no_bytecode_is_missing_or_stale_as_none_can_be_made_later(root: Path) -> None:
    """Python says so with -v; compiling would take longer than all else at the start."""
    imports = "import kproxy.cli, kproxy.daemon.run, kubernetes.config.exec_provider, aiohttp, pyroute2, ssl"
    said = inside(root, "/opt/kproxy/bin/python", "-v", "-c", imports).stderr
    assert said.count("# code object from") > 300
    compiled = re.findall(r"^# code object from '?(/[^']*\.py)'?$", said, re.MULTILINE)
    assert compiled == []
    assert "stale" not in said
