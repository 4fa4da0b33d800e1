"""What the demo puts on the screen: headings, bars, and claims that are checked before they are made."""

import sys
import time
from collections.abc import Mapping

WIDTH = 100
BAR = 40
BOLD, DIM, RED, GREEN, CYAN = "1", "2", "31", "32", "36"


class Screen:
    """Prints, and remembers which claims failed. Colour only where a person is watching."""

    def __init__(self, width: int = WIDTH, bar: int = BAR) -> None:
        self._width = width
        self._bar = bar
        self.failed: list[str] = []
        self.claims = 0
        self._colour = sys.stdout.isatty()
        self._started = time.monotonic()

    def heading(self, text: str) -> None:
        """Begin a step."""
        at = f"{time.monotonic() - self._started:.1f} s"
        self._line(f"\n{self._paint(text, BOLD, CYAN)}{self._paint(at.rjust(self._width - len(text)), DIM)}")

    def say(self, text: str) -> None:
        """One line of explanation."""
        self._line(f"  {text}")

    def quote(self, text: str, remark: str = "") -> None:
        """A line that a program or the kernel printed, under a remark in plain words."""
        if remark:
            self._line(f"  {self._paint('# ' + remark, DIM)}")
        self._line(f"    {text}")

    def bars(self, counts: Mapping[str, int]) -> None:
        """How a number of requests spread."""
        total = sum(counts.values())
        width = max((len(name) for name in counts), default=0)
        for name, count in sorted(counts.items()):
            share = count / total if total else 0
            filled = "█" * round(share * self._bar)
            self._line(
                f"    {name:<{width}}  {self._paint(filled.ljust(self._bar, '·'), CYAN)} {count:>5}  {share:>4.0%}"
            )

    def claim(self, text: str, seen: object, expected: object) -> None:
        """Say that something is so, if what was seen is what was expected; else say what was."""
        self.claim_that(seen == expected, text, seen, expected)

    def claim_that(self, holds: bool, text: str, seen: object, expected: object) -> None:
        """Say that something is so, if it holds; else say what was expected and what was seen."""
        self.claims += 1
        if holds:
            self._line(f"  {self._paint('✓', GREEN, BOLD)} {text}")
            return
        self.failed.append(text)
        self._line(f"  {self._paint('✗', RED, BOLD)} {text}")
        self._line(f"      expected: {expected}")
        self._line(f"      seen:     {seen}")

    def close(self) -> int:
        """The last line. Returns the exit code."""
        seconds = time.monotonic() - self._started
        if self.failed:
            verdict = f"{len(self.failed)} of {self.claims} claims were not so: {'; '.join(self.failed)}"
            self._line(f"\n{self._paint(verdict, RED, BOLD)}")
            return 1
        self._line(f"\n{self._paint(f'All {self.claims} claims were seen, in {seconds:.0f} s.', GREEN, BOLD)}")
        return 0

    def _paint(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colour else text

    def _line(self, text: str) -> None:
        print(text, flush=True)
