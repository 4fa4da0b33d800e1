"""The lock: one release of each package, hashed for both architectures, all that pyproject.toml asks for, and used."""

import importlib.metadata
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.kit.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
LOCK = ROOT / "lock"
LISTS = ("build", "run", "ingress", "tour", "test", "tool")
ASKED_FOR = {
    "build": [*PYPROJECT["dependency-groups"]["build"], *PYPROJECT["build-system"]["requires"]],
    "run": PROJECT["dependencies"],
    "ingress": PROJECT["optional-dependencies"]["ingress"],
    "tour": PROJECT["optional-dependencies"]["tour"],
    "test": PROJECT["optional-dependencies"]["dev"],
    "tool": PYPROJECT["dependency-groups"]["lock"],
}
"""What of pyproject.toml each list of the lock is made from."""

PYTHONS = ("3.11", "3.12", "3.13")
ARCHITECTURES = 2
FROM_SOURCE = {"python-iptables"}


class Locked(NamedTuple):
    """An entry of the lock."""

    requirement: Requirement
    hashes: list[str]
    wanted_by: str

    @property
    def version(self) -> str:
        """The one that is locked."""
        (one,) = self.requirement.specifier
        return one.version


def locked(name: str) -> Iterator[Locked]:
    """The entries of a list, as uv writes them: the package with its hashes, then a comment on who wants it."""
    text = re.sub(r"^#.*\n", "", (LOCK / f"{name}.txt").read_text(), flags=re.MULTILINE)
    for entry, wanted_by in re.findall(r"^(\S[^#]*)\n    # via (.*)$", text, re.MULTILINE):
        requirement, *hashes = entry.replace("\\\n", " ").split("--hash=")
        yield Locked(Requirement(requirement), [one.strip() for one in hashes], wanted_by)


def everything() -> dict[str, Locked]:
    """All entries of the lock by name."""
    return {entry.requirement.name: entry for name in LISTS for entry in locked(name)}


@pytest.mark.parametrize("name", LISTS)
def test_every_package_is_of_one_version_and_hashed(name: str) -> None:
    entries = list(locked(name))
    assert len(entries) == len(re.findall("^[a-z]", (LOCK / f"{name}.txt").read_text(), re.MULTILINE)) > 0
    for entry in entries:
        assert [one.operator for one in entry.requirement.specifier] == ["=="], entry
        assert entry.hashes, entry
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in entry.hashes), entry


def test_no_package_is_locked_twice() -> None:
    names = [entry.requirement.name for name in LISTS for entry in locked(name)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", LISTS)
def test_pyproject_and_the_lock_agree(name: str) -> None:
    """Whoever changes one of them without the other is to run hack/lock.sh."""
    wanted = {canonicalize_name(one.name): one for one in map(Requirement, ASKED_FOR[name])}
    whole = everything()
    assert wanted.keys() <= whole.keys()
    assert all(one.specifier.contains(whole[package].version) for package, one in wanted.items())
    listed = {entry.requirement.name: entry for entry in locked(name)}
    wanted_by_pyproject = {package for package, entry in listed.items() if "pyproject.toml" in entry.wanted_by}
    before = LISTS[: LISTS.index(name)] if name in ("ingress", "tour", "test") else ()
    assert wanted_by_pyproject == wanted.keys() - {entry.requirement.name for one in before for entry in locked(one)}


def test_what_a_locked_package_asks_for_is_locked_too() -> None:
    lock = everything()
    for entry in lock.values():
        if not is_installed(entry):
            continue
        for text in importlib.metadata.requires(entry.requirement.name) or ():
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                found = lock[canonicalize_name(asked.name)]
                assert asked.specifier.contains(found.version), f"{entry.requirement.name}: {text}"


def test_there_are_hashes_for_both_architectures_and_every_python() -> None:
    """Which file a hash is for it doesn't say; but a package with compiled parts has a file for each of these.

    hack/lock.sh asks the index, too.
    """
    compiled = {name: len(entry.hashes) for name, entry in everything().items() if has_compiled_parts(name)}
    assert compiled.keys() >= {"msgspec", "pyyaml", "ruff"}
    for name, count in compiled.items():
        files = ARCHITECTURES * (1 if is_for_any_python(name) else len(PYTHONS))
        assert count >= files or name in FROM_SOURCE, name


def is_installed(entry: Locked) -> bool:
    """In this release: hack/test.sh --newest has others."""
    try:
        return importlib.metadata.version(entry.requirement.name) == entry.version
    except importlib.metadata.PackageNotFoundError:
        return False


def tags(name: str) -> list[str]:
    """For which Pythons and platforms the installed files are; none where nothing is installed."""
    try:
        text = importlib.metadata.distribution(name).read_text("WHEEL") or ""
    except importlib.metadata.PackageNotFoundError:
        return []
    return re.findall("^Tag: (.*)$", text, re.MULTILINE)


def has_compiled_parts(name: str) -> bool:
    return any(not tag.endswith("-any") for tag in tags(name))


def is_for_any_python(name: str) -> bool:
    return any(tag.startswith("py3-") or "-abi3-" in tag for tag in tags(name))


@pytest.mark.parametrize("name", [*(f"lock/{name}.txt" for name in LISTS), "Dockerfile", "hack/setup.sh"])
def test_no_index_and_no_machine_is_named(name: str) -> None:
    text = (ROOT / name).read_text()
    pattern = r"index-url|--find-links (?!/wheels)|--trusted-host|https?_proxy|https?://"
    assert not re.search(pattern, text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("file", "lists"),
    [
        ("Dockerfile", {"build", "run"}),
        ("hack/setup.sh", {"build", "run", "ingress", "tour", "test"}),
        ("hack/lock.sh", {"tool"}),
    ],
)
def test_whatever_installs_takes_the_lock(file: str, lists: set[str]) -> None:
    """Each call of pip either holds all files to their hashes or takes nothing but kproxy itself."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    text = re.sub(r"install_newest\(\) \{.*?\n\}", "", text, flags=re.DOTALL)
    calls = re.findall(r"(?:in_venv|pip)(?: --python \S+)? (?:install|wheel) ([^&\n]*)", text)
    assert calls
    for call in calls:
        assert "--require-hashes" in call or "--no-deps" in call or "--no-index" in call, call
        assert bool(re.search("-r |--requirement|requirements", call)) == ("--require-hashes" in call), call
    assert {name for name in LISTS if f"lock/{name}.txt" in text} >= lists


def test_the_image_is_made_of_what_the_dockerfile_copies() -> None:
    """.dockerignore leaves out everything but what is named in COPY."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = {
        source for line in re.findall(r"^COPY (?!--)(.*)$", dockerfile, re.MULTILINE) for source in line.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


# The script that makes the lock, with a stand-in for uv: what it resolves is uv's business, and takes a network.

STAND_IN = """\
#!/usr/bin/env bash
set -eu
if [ "$1 $2" = "pip compile" ]; then
    while [ "$1" != --output-file ]; do shift; done
    case "$2" in
    */run.txt) printf 'kept==1.0 \\\\\n    --hash=sha256:00\nmoved==2.0 \\\\\n    --hash=sha256:00\nnew==1.0\n' >"$2" ;;
    *) ;;
    esac
elif [ -n "${FAILS_ON:-}" ] && [[ "$*" == *$FAILS_ON* ]]; then
    echo "no wheel" && exit 1
fi
"""
BEFORE = "gone==3.0 \\\n    --hash=sha256:00\nkept==1.0\nmoved==1.0\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("hack", "lock", ".venv-lock/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "hack/lock.sh").write_text((ROOT / "hack/lock.sh").read_text())
    for name in LISTS:
        (tmp_path / f"lock/{name}.txt").write_text(BEFORE if name == "run" else "")
    uv = tmp_path / ".venv-lock/bin/uv"
    uv.write_text(STAND_IN)
    uv.chmod(0o755)
    checksum = subprocess.run(["cksum"], input=b"", capture_output=True, check=True).stdout
    (tmp_path / ".venv-lock/.made-from").write_bytes(checksum)
    return tmp_path


def make_lock(checkout: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = ["env", *(f"{name}={value}" for name, value in environ.items()), "bash", "hack/lock.sh", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_making_it_says_what_was_added_removed_and_changed(checkout: Path) -> None:
    done = make_lock(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["removed gone 3.0", "changed moved 1.0 → 2.0", "added   new 1.0"]
    assert make_lock(checkout).stdout == "Nothing changed.\n"


def test_what_does_not_install_everywhere_is_not_locked(checkout: Path) -> None:
    done = make_lock(checkout, FAILS_ON="aarch64")
    assert done.returncode == 1
    assert "does not install on aarch64-manylinux_2_28 with Python 3.11: no wheel" in done.stderr
    assert (checkout / "lock/run.txt").read_text() == BEFORE


def test_an_option_it_does_not_know_is_an_error(checkout: Path) -> None:
    done = make_lock(checkout, "--update")
    assert (done.returncode, done.stdout) == (1, "")
    assert "unknown option --update" in done.stderr
