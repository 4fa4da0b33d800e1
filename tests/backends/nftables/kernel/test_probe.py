"""A machine that cannot do it is refused with a line that names what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from kproxy.backends.nftables.kernel import library, probe
from kproxy.backends.nftables.kernel.errors import KernelRefusedError, NoNftablesError
from kproxy.backends.nftables.kernel.presence import tables
from kproxy.backends.nftables.kernel.probe import FEATURES, Feature, why_not
from kproxy.state.model import IPFamily
from tests.kit.netns import network_namespace
from tests.kit.nft import nft
from tests.kit.paths import ROOT


@pytest.mark.kernel
@pytest.mark.parametrize("family", IPFamily)
def test_this_machine_has_all_that_is_needed(tmp_path: Path, family: IPFamily) -> None:
    with network_namespace(tmp_path):
        assert why_not(family) is None
        assert nft("list", "tables") == ""


@pytest.mark.kernel
def test_what_the_kernel_or_the_library_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = Feature("telepathy", "Linux 9.0", "chain c { telepathic accept\n}")
    monkeypatch.setattr(probe, "FEATURES", (*FEATURES, lacking))
    with network_namespace(tmp_path):
        said = why_not(IPFamily.IPV4)
    assert said is not None
    assert said.startswith("nftables needs telepathy (Linux 9.0): ")
    assert "\n" not in said


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "SONAME", "libnftables-not.so.1")
    said = why_not(IPFamily.IPV4)
    assert said is not None
    assert "libnftables-not.so.1" in said
    assert "libnftables1" in said
    with pytest.raises(NoNftablesError):
        library.Libnftables()


@pytest.mark.kernel
def test_missing_privileges_are_named(tmp_path: Path) -> None:
    program = (
        "from kproxy.backends.nftables.kernel.probe import why_not;"
        "from kproxy.backends.nftables.kernel.presence import tables;"
        "from kproxy.state.model import IPFamily;"
        "print(why_not(IPFamily.IPV4)); print(tables(IPFamily.IPV4))"
    )
    command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", program]
    with network_namespace(tmp_path):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    said, found = done.stdout.splitlines()
    assert "NET_ADMIN" in said
    assert found == "frozenset()"


@pytest.mark.kernel
def test_tables_of_kproxy_and_kube_proxy_are_found_by_family(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        assert tables(IPFamily.IPV4) == set()
        nft(
            "-f", "-", text="add table ip kube-proxy\nadd table ip6 kproxy\nadd table ip other\nadd table inet kproxy\n"
        )
        assert tables(IPFamily.IPV4) == {"kube-proxy"}
        assert tables(IPFamily.IPV6) == {"kproxy"}


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        ("Error: Could not process rule: File exists\nadd element …\n            ^^^\n", 17, "File exists"),
        ("netlink: Error: cache initialization failed: Operation not permitted\n", 1, "NET_ADMIN"),
        ("Error: syntax error, unexpected '}'\n", 0, "syntax error"),
        ("Error: Could not process rule: Cannot allocate memory\n", 12, "limit"),
        ("", 0, "nftables"),
    ],
)
def test_errors_of_libnftables_become_one_line(said: str, code: int, told: str) -> None:
    error = KernelRefusedError(said)
    assert error.code == code
    assert told in str(error)
    assert "\n" not in str(error)
    assert error.may_be_a_services_fault is (code in (0, 17))
