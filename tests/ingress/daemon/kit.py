"""``kproxy ingress`` as a process, with a real HAProxy, in the namespace that the test is in."""

import hashlib
import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.settings import EngineSettings
from tests.kit.waiting import PATIENCE, eventually

REPOSITORY = Path(__file__).resolve().parents[3]
HEALTH, METRICS = 10254, 10253


class Program:
    """A running ``kproxy ingress``."""

    def __init__(self, folder: Path, args: Sequence[str]) -> None:
        self.state = state_of(folder)
        self.log_file = folder / f"kproxy-{time.monotonic_ns()}.log"
        self.out_file = self.log_file.with_suffix(".out")
        command = [sys.executable, "-m", "kproxy", "ingress", "--state-dir", str(self.state), *args]
        with self.log_file.open("wb") as log, self.out_file.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=REPOSITORY, start_new_session=True
            )

    def log(self) -> str:
        """What it has said so far."""
        return self.log_file.read_text()

    def out(self) -> str:
        """What it has written on standard output."""
        return self.out_file.read_text()

    def get(self, path: str, port: int = HEALTH) -> tuple[int, str]:
        """Ask one of its own servers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Tell whether it says that it is."""
        assert self.process.poll() is None, self.log()
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        """All samples."""
        samples = (line.rpartition(" ") for line in self.get("/metrics", METRICS)[1].splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in samples}

    def metric(self, name: str) -> float:
        """One sample, or the sum of all whose names begin so."""
        return sum(value for found, value in self.metrics().items() if found == name or found.startswith(f"{name}{{"))

    def stop(self, timeout: float = PATIENCE) -> int:
        """Ask it to end, and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it as nobody likes to end."""
        self.process.kill()
        self.process.wait()


def state_of(folder: Path) -> Path:
    """Return the state folder of programs with this folder: a short path, as those of sockets have to be."""
    return Path("/tmp") / f"kpi-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"  # noqa: S108


@contextmanager
def program(folder: Path, *args: str, ready: bool = True, end: bool = True) -> Iterator[Program]:
    """Run it, and end it and HAProxy with it."""
    running = Program(folder, args)
    try:
        if ready:
            eventually(running.is_ready)
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()
        if end:
            end_haproxy(running.state)
            shutil.rmtree(running.state, ignore_errors=True)
    assert "Traceback" not in running.log()
    assert "traceback" not in running.log()


def end_haproxy(state: Path) -> None:
    """End a HAProxy that serves without kproxy."""
    if (state / "haproxy.pid").exists():
        engine = Engine(EngineSettings(state_dir=str(state)))
        engine._begin()
        engine.close(stop=True, grace_s=0.0)


def write(path: Path, *documents: str) -> None:
    """Put a file there in one go."""
    draft = path.with_suffix(".draft")
    draft.write_text("\n---\n".join(documents))
    draft.rename(path)
