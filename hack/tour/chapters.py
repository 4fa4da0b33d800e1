"""The chapters: what there is of them, and what makes one."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

from hack.tour.guide import Guide

Step: TypeAlias = Callable[[Guide, Any], None]


class Story(NamedTuple):
    """A chapter's content. A module of a chapter has one, called STORY.

    `stage` builds what the steps play on, and is handed to each of them. `farewell` are the steps that take things down
    again; they are left out where the chapter shall stay.
    """

    opening: str
    picture: str
    steps: tuple[Step, ...]
    farewell: tuple[Step, ...] = ()
    stage: Callable[[Guide], AbstractContextManager[Any]] = lambda _: nullcontext()


class Chapter(NamedTuple):
    """A chapter's place on the list. `name` is its module, too; `words` are what else it answers to."""

    number: int
    name: str
    title: str
    words: tuple[str, ...] = ()

    def story(self) -> Story:
        """Load it."""
        story = importlib.import_module(f"hack.tour.{self.name}").STORY
        assert isinstance(story, Story)
        return story


CHAPTERS = (
    Chapter(1, "wires", "Wires", ("namespaces", "veth", "bridge")),
    Chapter(2, "docker0", "Out of the machine, as docker0 does it", ("docker", "nat")),
    Chapter(3, "pod", "A pod", ("pause", "cni")),
    Chapter(4, "service", "A Service", ("services", "kproxy")),
    Chapter(5, "name", "A name", ("dns",)),
    Chapter(6, "host", "A host and a path", ("ingress", "http", "path")),
)


def find(word: str) -> Chapter:
    """The chapter of that number or name. Raises LookupError, with all there are, for any other word."""
    wanted = word.lower()
    for chapter in CHAPTERS:
        if wanted in (str(chapter.number), chapter.name, chapter.title.lower(), *chapter.words):
            return chapter
    there = ", ".join(f"{chapter.number} or {chapter.name}" for chapter in CHAPTERS)
    raise LookupError(f"there is no chapter {word!r}; there are {there}")
