"""Every package says what each of its modules is for, so that a stranger opens the right file."""

import ast
import re
from pathlib import Path

import pytest

from tests.kit.paths import ROOT

PACKAGES = sorted((ROOT / "kproxy").rglob("__init__.py"))


@pytest.mark.parametrize("face", PACKAGES, ids=lambda face: str(face.parent.relative_to(ROOT)))
def test_every_module_is_named_in_its_packages_docstring(face: Path) -> None:
    told = ast.get_docstring(ast.parse(face.read_text())) or ""
    words = set(re.findall(r"`+([a-z_]+)`+", told))
    rooms = {path.stem for path in face.parent.glob("*.py")} | {
        path.parent.name for path in face.parent.glob("*/__init__.py")
    }
    assert rooms - words - {"__init__", "__main__"} == set()
    named_only = {word for word in words if (face.parent / f"{word}.py").exists() or (face.parent / word).is_dir()}
    assert named_only <= rooms
