"""kproxy's own files change under a running daemon: it goes on with what it has, and says that it wants a restart."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack.lab import Kproxy, Lab, until
from hack.lab.kproxy import METRICS_PORT, run_command
from hack.lab.processes import REPOSITORY
from kproxy.daemon.files import ChangedError, Files
from kproxy.daemon.later import before_loading, later
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port
from tests.kit.clock import Clock
from tests.kit.packets import PATIENCE

ABSENT = "wsgiref.validate"  # a module that nothing else here needs


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in ("here.py", "room/there.py", "ingress/other.py", "room/__pycache__/there.pyc"):
        file = tmp_path / "kproxy" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1\n")
    return tmp_path / "kproxy"


@pytest.fixture
def files(package: Path, clock: Clock) -> Files:
    files = Files(package, clock)
    files.remember()
    return files


def put(file: Path) -> None:
    file.write_text("12\n")


def touch(file: Path) -> None:
    """Replace it by one of the same size, as a pull does."""
    draft = file.with_suffix(".draft")
    draft.write_text("2\n")
    draft.rename(file)


@pytest.mark.parametrize(
    ("change", "name"),
    [(put, "here.py"), (touch, "room/there.py"), (put, "room/new.py"), (Path.unlink, "here.py")],
    ids=["written", "replaced", "added", "removed"],
)
def test_what_changed_is_named_with_the_remedy(
    files: Files, package: Path, clock: Clock, change: Callable[[Path], object], name: str
) -> None:
    assert files.problem() == ""
    change(package / name)
    clock.now += 2
    assert files.problem() == f"kproxy's own files have changed since it started: kproxy/{name}; restart it"


def test_of_many_one_is_named(files: Files, package: Path, clock: Clock) -> None:
    shutil.rmtree(package)
    clock.now += 2
    assert files.problem().endswith(f"changed since it started: {package.name}/here.py and 1 more; restart it")


@pytest.mark.parametrize("name", ["ingress/other.py", "room/__pycache__/there.pyc", "readme.txt"])
def test_what_is_not_loaded_by_the_daemon_may_change(files: Files, package: Path, clock: Clock, name: str) -> None:
    put(package / name)
    clock.now += 2
    assert files.problem() == ""


def test_how_they_were_is_noted_once(files: Files, package: Path, clock: Clock) -> None:
    put(package / "here.py")
    files.remember()
    clock.now += 2
    assert files.problem()


def test_nothing_is_said_of_files_that_nobody_has_looked_at(package: Path, clock: Clock) -> None:
    assert Files(package, clock).problem() == ""


def test_nothing_is_loaded_any_more_once_files_have_changed(
    files: Files, package: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, ABSENT, raising=False)
    loaded = later("json.decoder").JSONDecoder
    before_loading(files.check)
    try:
        put(package / "here.py")
        clock.now += 2
        with pytest.raises(ChangedError, match="restart it"):
            _ = later(ABSENT).validator
        assert ABSENT not in sys.modules
        assert later("json.decoder").JSONDecoder is loaded
    finally:
        before_loading(lambda: None)


# --- a daemon --------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the program."""
    shutil.copytree(REPOSITORY / "kproxy", tmp_path / "kproxy")
    return tmp_path


@pytest.fixture
def kproxy(lab: Lab, program: Path) -> Iterator[Kproxy]:
    objects = (
        make_service("web", cluster_ip="10.96.0.1", ports=[service_port(80)]),
        make_slice("web", endpoints=[endpoint("10.0.9.1")], ports=[slice_port(8080)]),
    )
    manifests = program / "manifests"
    manifests.mkdir()
    (manifests / "all.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))
    configure(program, "iptables")
    own = ["--config", str(program / "config.json"), "--state-directory", str(program / "state")]
    node = lab.node
    _, _, _, *command = run_command(node.name, node.ip, ["--manifests", str(manifests)], own)
    start = f"import sys; sys.path.insert(0, {str(program)!r}); from kproxy.cli import main; sys.exit(main())"
    kproxy = Kproxy(node.start([sys.executable, "-c", start, *command]), node.namespace, node.ip)
    kproxy.wait_ready(PATIENCE)
    yield kproxy
    assert kproxy.stop() == 0
    assert "Traceback" not in kproxy.log()
    node.run([sys.executable, "-m", "kproxy", "cleanup"])


def configure(program: Path, mode: str) -> None:
    head = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
    draft = program / "config.draft"
    draft.write_text(json.dumps({**head, "mode": mode}))
    draft.rename(program / "config.json")


@pytest.mark.kernel
def test_a_daemon_whose_files_change_goes_on_in_its_mode_and_says_so(kproxy: Kproxy, program: Path, lab: Lab) -> None:
    engine = program / "kproxy/backends/nftables/backend.py"
    until(lambda: "serving server=metrics" in kproxy.log(), PATIENCE, "all to be there")
    engine.write_text("from kproxy.plan import nothing_that_was_there_before\n")
    configure(program, "nftables")
    until(lambda: "can't be taken up" in kproxy.log(), PATIENCE, "it to say so")
    reason = "kproxy's own files have changed since it started: kproxy/backends/nftables/backend.py; restart it"
    assert [line for line in kproxy.log().splitlines() if reason in line and " error config: " in line]
    assert kproxy.get("/proxyMode", METRICS_PORT) == (200, "iptables")
    assert kproxy.get("/healthz")[0] == 200
    status, text = kproxy.get("/page.json", METRICS_PORT)
    assert (status, json.loads(text)) == (503, {"error": reason})
    asked = lab.node.run(
        [sys.executable, "-m", "kproxy", "explain", "default/web", "--state-directory", str(program / "state")],
        check=False,
    )
    assert (asked.returncode != 0, reason in asked.stderr) == (True, True)
    shutil.copy2(REPOSITORY / engine.relative_to(program), engine)  # with the time of its last change
    until(lambda: kproxy.log().count(" starting ") > 1, PATIENCE, "the change of mode after all")
    kproxy.wait_ready(PATIENCE)
    assert kproxy.get("/proxyMode", METRICS_PORT) == (200, "nftables")
