"""Every package says what each of its modules is for, so that a stranger opens the right file; no reference is lost."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.paths import ROOT

PACKAGES = sorted(face for top in ("kproxy", "hack", "tests/kit") for face in (ROOT / top).rglob("__init__.py"))


@pytest.mark.parametrize("face", PACKAGES, ids=lambda face: str(face.parent.relative_to(ROOT)))
def test_every_module_is_named_in_its_packages_docstring(face: Path) -> None:
    told = ast.get_docstring(ast.parse(face.read_text())) or ""
    words = set(re.findall(r"`+([a-z_0-9]+)`+", told))
    rooms = {path.stem for path in face.parent.glob("*.py")} | {
        path.parent.name for path in face.parent.glob("*/__init__.py")
    }
    assert rooms - words - {"__init__", "__main__"} == set()
    named_only = {word for word in words if (face.parent / f"{word}.py").exists() or (face.parent / word).is_dir()}
    assert named_only <= rooms


def referred_to(text: str) -> Iterator[str]:
    """Yield what a text speaks of in backticks by its full name, and files by their path."""
    yield from re.findall(r"`+((?:kproxy|hack|tests)(?:\.\w+)+)(?:\(\))?`", text)
    yield from re.findall(r"\b((?:kproxy|hack|tests)/[\w/]+\.(?:py|sh|md))", text)


def is_there(reference: str) -> bool:
    if "/" in reference:
        return (ROOT / reference).exists()
    parts = reference.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if name in getattr(found, "__annotations__", {}):
                return True
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def test_references_lead_somewhere() -> None:
    pages = [path for top in ("kproxy", "hack", "tests", "deploy") for path in (ROOT / top).rglob("*.[pm][yd]")]
    lost = {
        (str(page.relative_to(ROOT)), reference)
        for page in (*pages, ROOT / "README.md")
        for reference in referred_to(page.read_text())
        if not is_there(reference)
    }
    assert lost == set()
