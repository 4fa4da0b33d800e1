"""hack/record.py records: tried with kproxy in place of kube-proxy, whose recordings are to come out again."""

import shutil
import sys
from pathlib import Path

import pytest

from hack.record import main
from tests.golden.test_golden import GOLDEN
from tests.kit.iptables.text import comparable, parse_tables

pytestmark = pytest.mark.kernel

SCENARIOS = ("dual-stack",)


def test_a_program_that_is_as_good_as_kube_proxy_makes_the_same_recording(tmp_path: Path) -> None:
    program = tmp_path / "kube-proxy"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kproxy "$@"\n')
    program.chmod(0o755)
    for name in SCENARIOS:
        (tmp_path / name).mkdir()
        for file in ("objects.json", "config.yaml"):
            shutil.copy(GOLDEN / name / file, tmp_path / name)
    assert main([str(program), *(str(tmp_path / name) for name in SCENARIOS)]) == 0
    for name in SCENARIOS:
        for file in ("iptables.v4.save", "iptables.v6.save"):
            again, recorded = ((folder / name / file).read_text() for folder in (tmp_path, GOLDEN))
            assert comparable(parse_tables(again)) == comparable(parse_tables(recorded)), f"{name}: {file}"


def test_a_program_that_ends_is_named_with_its_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "kube-proxy"
    program.write_text("#!/bin/sh\necho unknown flag >&2\nexit 3\n")
    program.chmod(0o755)
    shutil.copytree(GOLDEN / "dual-stack", tmp_path / "dual-stack")
    assert main([str(program), str(tmp_path / "dual-stack")]) == 1
    assert "exit code 3:\nunknown flag" in capsys.readouterr().err
