"""``kproxy ingress render``: objects in, HAProxy's configuration and maps out."""

from collections.abc import Mapping, Sequence

from kproxy.api.types import Problem
from kproxy.ingress.config.settings import Settings
from kproxy.ingress.haproxy.engine import render
from kproxy.ingress.tools.objects import load


def render_files(files: Sequence[str], settings: Settings) -> tuple[str, tuple[Problem, ...]]:
    """Return what HAProxy is told for the objects in files, and what was left out. Raises ManifestError."""
    loaded = load(files, settings)
    return as_text(render(loaded.planned.plan, settings.engine)), loaded.problems


def as_text(files: Mapping[str, str]) -> str:
    """Return files one after the other, each after its name; of keys, only that they are there."""
    return "\n".join(f"# --- {path}\n{_shown(path, text)}" for path, text in files.items())


def _shown(path: str, text: str) -> str:
    if path.endswith(".list") or "PRIVATE KEY" not in text:
        return text
    return "# a certificate with its key, not shown\n"
