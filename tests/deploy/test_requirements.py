"""The image's dependencies: pinned, hashed for both architectures, and all that kproxy asks for."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.kit.deploy import DEPLOY

PROJECT = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
FILES = ("requirements.txt", "requirements-build.txt")


def pinned(name: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement with its hashes."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        requirement, *hashes = entry.split("--hash=")
        yield Requirement(requirement), [one.strip() for one in hashes]


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_of_one_version_and_hashed(name: str) -> None:
    for requirement, hashes in pinned(name):
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), requirement


def test_all_that_kproxy_asks_for_is_there_in_a_version_that_will_do() -> None:
    versions = {one.name: next(iter(one.specifier)).version for one, _ in pinned("requirements.txt")}
    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert wanted.specifier.contains(versions[name]), text


@pytest.mark.parametrize("name", [*FILES, "../Dockerfile"])
def test_no_index_and_no_machine_is_named(name: str) -> None:
    text = Path(DEPLOY / name).read_text()
    pattern = r"--(extra-)?index-url|--find-links (?!/wheels)|--trusted-host|https?_proxy"
    assert not re.search(pattern, text, re.IGNORECASE)


def test_the_image_is_made_of_what_the_dockerfile_copies() -> None:
    """.dockerignore leaves out everything but what is named in COPY."""
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text()
    copied = {
        source for line in re.findall(r"^COPY (?!--)(.*)$", dockerfile, re.MULTILINE) for source in line.split()[:-1]
    }
    ignore = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((DEPLOY.parent / source).exists() for source in copied)
