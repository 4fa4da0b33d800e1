"""``hack/tour.sh``: which chapters to play, one after the other, and whether all was seen."""

import argparse
import sys
import time
from typing import NoReturn

from hack.lab import LabError
from hack.tour import world
from hack.tour.chapters import CHAPTERS, Chapter, find

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"hack/tour.sh: {message}\n")


def _chapter(word: str) -> Chapter:
    try:
        return find(word)
    except LookupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _options() -> argparse.Namespace:
    listed = "\n".join(f"  {chapter.number}  {chapter.name:<9}  {chapter.title}" for chapter in CHAPTERS)
    parser = _Parser(
        prog="hack/tour.sh",
        description="Kubernetes' network on this machine, from two namespaces to an Ingress.",
        epilog=f"chapters:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chapters", metavar="CHAPTER", nargs="*", type=_chapter, help="number or name; all by default")
    parser.add_argument("--pause", action="store_true", help="wait for Enter between steps")
    parser.add_argument("--stay", action="store_true", help="leave each chapter standing, with a shell in it")
    return parser.parse_intermixed_args()


def main() -> int:
    options = _options()
    started = time.monotonic()
    failed: list[Chapter] = []
    chosen = options.chapters or CHAPTERS
    flags = [flag for flag in ("pause", "stay") if getattr(options, flag)]
    for chapter in chosen:
        try:
            code = world.enter("hack.tour.play", [chapter.name, *(f"--{flag}" for flag in flags)])
        except LabError as error:
            print(f"hack/tour.sh: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return INTERRUPTED
        if code == INTERRUPTED:
            return code
        if code:
            failed.append(chapter)
    if failed:
        print(f"\nNot all was as told in: {', '.join(f'{chapter.number} {chapter.title}' for chapter in failed)}.")
        return 1
    if len(chosen) > 1:
        print(f"\n{len(chosen)} chapters, and all was as told, in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
