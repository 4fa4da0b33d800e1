"""HAProxy needs no root: a port below 1024 takes one capability, and only the state's folder is written."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.ingress.haproxy.kit import engine, ingress, slices
from tests.ingress.kit import planned

pytestmark = pytest.mark.kernel

NOBODY = 65534


@pytest.mark.usefixtures("three")
def test_it_runs_as_nobody_with_one_capability_and_writes_nothing_but_its_folder() -> None:
    state = Path("/run") / f"kproxy-test-{os.getpid()}"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    script = textwrap.dedent(f"""
        from kproxy.ingress.haproxy.engine import Engine
        from kproxy.ingress.haproxy.settings import EngineSettings
        from tests.ingress.haproxy.kit import get, ingress, slices
        from tests.ingress.kit import planned

        made = Engine(EngineSettings(state_dir={str(state / "state")!r}))
        for address in ("10.1.0.1", "10.1.0.2"):
            report = made.apply(planned(slices("web", [address]), ingress("w.example.com", "web")).plan)
            assert not report.refused, report
        print(get("w.example.com").pod, report.reloaded)
        made.close(stop=True, grace_s=0.2)
    """)
    # The second capability lets it read this checkout, wherever that is; it gives no right to write.
    kept = "-all,+net_bind_service,+dac_read_search"
    run = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    run += [f"--bounding-set={kept}", f"--inh-caps={kept}", f"--ambient-caps={kept}"]
    read_only = f"mount -o remount,bind,ro / && mount --bind {state} {state} && mount -o remount,bind,rw {state}"
    shell = f'{read_only} && ! touch /etc/nothing 2>/dev/null && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", shell, "sh", *run, sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd="/", env=environment
        )
        assert done.stdout.split() == ["b", "None"], done.stderr
    finally:
        subprocess.run(["rm", "-rf", str(state)], check=True)


@pytest.mark.usefixtures("three")
def test_keys_are_for_nobody_else_to_read(tmp_path: Path) -> None:
    with engine(tmp_path) as made:
        made.apply(planned(slices("web", ["10.1.0.1"]), ingress("w.example.com", "web")).plan)
        for path in (tmp_path / "state").rglob("*"):
            if not path.is_symlink() and path.name not in ("haproxy.pid", "haproxy.err"):
                assert path.stat().st_mode & 0o077 == 0, path
