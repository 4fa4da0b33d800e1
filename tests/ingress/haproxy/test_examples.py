"""The configuration of whole examples, to be read beside their objects; HAProxy takes each as it is.

python -m tests.ingress.haproxy.test_examples    writes the .txt files anew: read what changes
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kproxy.ingress.haproxy.engine import render
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.plan.model import Plan
from tests.ingress.kit import planned, secret, service
from tests.kit.netns import need

FOLDER = Path(__file__).parent / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def plan(name: str) -> Plan:
    made = planned((FOLDER / f"{name}.yaml").read_text(), *map(service, ("web", "cart", "api")), secret("shop-tls"))
    assert made.problems == ()
    return made.plan


def shown(files: Mapping[str, str]) -> str:
    """Return all files in one, without certificates, which are other ones each time."""
    parts = [f"==> {name}\n{text}" for name, text in files.items() if not name.endswith(".pem")]
    return "\n".join(parts)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_spelled_as_written_down(name: str) -> None:
    assert shown(render(plan(name))) == (FOLDER / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_haproxy_takes_an_example(name: str, tmp_path: Path) -> None:
    need("haproxy")
    for path, text in render(plan(name), EngineSettings(state_dir=str(tmp_path))).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    command = ["haproxy", "-c", "-f", str(tmp_path / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "[ALERT]" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if "[WARNING]" in line and "no SSL certificate" not in line]


if __name__ == "__main__":
    for example in EXAMPLES:
        (FOLDER / f"{example}.txt").write_text(shown(render(plan(example))))
