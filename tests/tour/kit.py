"""Playing chapters of the tour as its reader would, and spoiling them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hack.lab.processes import REPOSITORY


def tour(*arguments: str, text: str = "", env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """What ``hack/tour.sh ARGUMENTS`` prints, once it has set itself up; `text` is typed into it."""
    return subprocess.run(
        [sys.executable, "-m", "hack.tour", *arguments], input=text, capture_output=True, text=True, check=False,
        cwd=REPOSITORY, env={**os.environ, **(env or {})}, timeout=120,
    )  # fmt: skip


def spoiled(folder: Path, tool: str, word: str, instead: str = "exit 0") -> dict[str, str]:
    """An environment in which `tool` does `instead` where its command line has `word` in it, and its job otherwise."""
    fake = folder / tool
    real = f'PATH="${{PATH#*{folder}:}}" exec {tool} "$@"'
    fake.write_text(f'#!/bin/bash\ncase "$*" in *{word}*) {instead};; esac\n{real}\n')
    fake.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}
