"""hack/release.sh: the version goes wherever it stands, and the tag holds what has changed."""

import re
import subprocess
from pathlib import Path

import pytest

from kproxy import __version__
from tests.kit.paths import ROOT

NEW = "98.7.6"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what the release changes, as it is in this checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    files = ["hack/release.sh", "CHANGELOG.md", "Dockerfile", "kproxy/__init__.py"]
    files += [str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "Releaser")
    git(folder, "config", "user.email", "releaser@example.org")
    git(folder, "config", "maintenance.auto", "false")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All of it")
    return folder


@pytest.fixture(scope="module")
def released(checkout: Path) -> subprocess.CompletedProcess[str]:
    return release(checkout, NEW)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "hack/release.sh", *arguments]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def test_a_release(checkout: Path, released: subprocess.CompletedProcess[str]) -> None:
    assert (released.returncode, released.stderr) == (0, "")
    assert git(checkout, "status", "--porcelain") == ""
    assert f'__version__ = "{NEW}"' in (checkout / "kproxy/__init__.py").read_text()
    assert f"newTag: {NEW}" in (checkout / "deploy/base/kustomization.yaml").read_text()
    assert f"image=kproxy:{NEW}" in (checkout / "deploy/overlays/kind/up.sh").read_text()
    assert f"kproxy:{__version__}" not in git(checkout, "grep", "-h", "kproxy:")
    headings = re.findall("^## (.*)$", (checkout / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{NEW}\] - 20..-..-..", headings[1])
    assert "kproxy render" in git(checkout, "tag", "--list", "--format", "%(contents)", f"v{NEW}")


@pytest.mark.parametrize(
    ("arguments", "said"), [((), "say which version"), (("v1",), "say which version"), ((NEW,), "not committed")]
)
def test_what_is_no_release(checkout: Path, arguments: tuple[str, ...], said: str) -> None:
    new = checkout / "new"
    new.touch()
    done = release(checkout, *arguments)
    new.unlink()
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


@pytest.mark.usefixtures("released")
def test_nothing_is_released_twice(checkout: Path) -> None:
    assert f"the tag v{NEW} is there already" in release(checkout, NEW).stderr
    assert "CHANGELOG.md names no unreleased change" in release(checkout, "99.0.0").stderr
