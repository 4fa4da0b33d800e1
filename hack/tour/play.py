"""``python -m hack.tour.play CHAPTER``: one chapter, in a world that has just been entered. See `hack.tour.world`."""

import argparse
import signal
import sys
from pathlib import Path

import msgspec

from hack.lab import LabError
from hack.tour import chapters, world
from hack.tour.chapters import Chapter
from hack.tour.guide import Guide


def play(chapter: Chapter, guide: Guide, outside_id: int, *, stay: bool) -> None:
    """Tell a chapter from its first step to its last. Raises LabError where it cannot go on."""
    story = chapter.story()
    guide.begin(chapter.title, story.opening, story.picture)
    with story.stage(guide) as stage:
        for step in story.steps:
            step(guide, stage)
        if stay:
            world.walk_around(outside_id)
            return
        for step in story.farewell:
            step(guide, stage)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("chapter", type=chapters.find)
    parser.add_argument("--pause", action="store_true")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--record", metavar="FILE", type=Path, help="write there what was told, as JSON")
    options = parser.parse_args()
    try:
        outside_id = world.settle()
        guide = Guide(options.chapter.number, world.FOLDER, world.environment(), pause=options.pause)
        play(options.chapter, guide, outside_id, stay=options.stay)
        if options.record:
            options.record.write_bytes(msgspec.json.encode(guide.told))
    except (LabError, OSError) as error:
        print(f"\nhack/tour.sh: chapter {options.chapter.number}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return guide.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
