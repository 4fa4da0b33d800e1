"""The scripts in hack/: who asks one what it does is told, and nothing is done."""

import subprocess
from pathlib import Path

import pytest

from tests.kit.paths import ROOT

SCRIPTS = sorted((ROOT / "hack").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_a_script_says_what_it_does(script: Path, option: str, tmp_path: Path) -> None:
    told = subprocess.run([script, option], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60).stdout
    head = script.read_text().partition("\nset ")[0].splitlines()[1:]
    assert told.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in head]
