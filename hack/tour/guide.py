"""What a chapter puts on the screen: steps, the commands of each and what they printed, and what was checked.

All of it fits into 80 columns. A command is shown exactly as it is given to the shell, and what is shown of its output
is what it printed. A ✓ is printed by `claim` and `claim_that` alone, after looking (`hack.demo.screen`).
"""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from hack.demo.screen import BOLD, CYAN, DIM, Screen
from hack.lab import LabError, until

T = TypeVar("T")
WIDTH = 80
BAR = 30
TEXT = WIDTH - 4  # both text and output are indented by four
COMMAND_TIMEOUT = 60.0  # seconds; on a quiet machine nothing in the tour takes more than one or two
READY_TIMEOUT = 30.0
LAST_LINES = 15  # of a program's log, when it fails


class Ran(NamedTuple):
    """A command that was run: as typed, what it printed (all of it), and its exit code."""

    command: str
    output: str
    exit_code: int


class Told(NamedTuple):
    """One step as it was told, for whoever wants to print it elsewhere: `shown` are commands, claims and drawings."""

    title: str
    why: str
    shown: list["Ran | str"]


class Background:
    """A program started with ``&``. It ends with `kill`, or with the world."""

    def __init__(self, popen: "subprocess.Popen[bytes]", log_file: Path) -> None:
        self._popen = popen
        self._log_file = log_file

    @property
    def pid(self) -> int:
        """Its process id within the world."""
        return self._popen.pid

    def log(self) -> str:
        """All that it has printed so far."""
        return self._log_file.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, wait for its end, return the exit code (negative: the signal that ended it)."""
        self._popen.send_signal(number)
        return self._popen.wait(READY_TIMEOUT)


class Guide(Screen):
    """Tells one chapter. `folder` is where commands are typed, `environment` what they see."""

    def __init__(self, number: int, folder: Path, environment: Mapping[str, str], *, pause: bool = False) -> None:
        super().__init__(width=WIDTH, bar=BAR)
        self.told: list[Told] = []
        self.folder = folder
        self.variables: dict[str, str] = {}  # set by `start`, as $! would
        self._number = number
        self._environment = environment
        self._pause = pause
        self._programs = 0

    # What is told.

    def begin(self, title: str, opening: str, picture: str) -> None:
        """The chapter's title, what it is about, and a drawing."""
        self._line(self._paint(f"\n── {self._number}  {title} ".ljust(WIDTH + 1, "─"), BOLD))
        self._line("")
        self._text(opening)
        self.draw(picture)

    def step(self, title: str, why: str) -> None:
        """Begin a step: its title, and the reason for what comes, in a sentence or two."""
        if self.told and self._pause:
            self._wait_for_enter()
        self.told.append(Told(title, " ".join(why.split()), []))
        self.heading(f"{self._number}.{len(self.told)}  {title}")
        self._text(why)

    def draw(self, picture: str) -> None:
        """A drawing of several lines."""
        lines = textwrap.dedent(picture).strip("\n").splitlines()
        if lines:
            self._line("\n" + "\n".join(f"    {line}".rstrip() for line in lines))

    def remark(self, text: str) -> None:
        """More text within a step."""
        self._text(text)

    # What is done.

    def run(self, command: str, *, expect: int | None = 0, show: Callable[[str], Iterable[str]] | None = None) -> str:
        """Show a command, run it by bash, show what it printed, and return that (both streams, in order).

        `expect` is the exit code it must have, None for any; with another one the chapter can't go on: LabError. `show`
        picks the lines worth showing, all by default.
        """
        typed = textwrap.dedent(command).strip("\n")
        self._typed(typed)
        output, code = self._bash(typed)
        lines = list(show(output)) if show else output.splitlines()
        self.told[-1].shown.append(Ran(typed, "\n".join(lines), code))
        self._output(lines)
        if expect is not None and code != expect:
            raise LabError(f"{typed}: exit code {code}, expected {expect}: {output.strip()}")
        return output

    def look(self, command: str) -> str:
        """Run a command without showing it, to check a claim. Raises LabError if it fails."""
        output, code = self._bash(command)
        if code:
            raise LabError(f"{command}: exit code {code}: {output.strip()}")
        return output

    def start(self, command: str, variable: str = "", *, told: bool = True) -> Background:
        """Show a command with ``&`` and start it. With `variable`, later commands find its process id in there.

        One that is like another but for where it runs need not be `told`.
        """
        typed = textwrap.dedent(command).strip("\n")
        shown = f"{typed} &" + (f"\n{variable}=$!" if variable else "")
        if told:
            self._typed(shown)
            self.told[-1].shown.append(Ran(shown, "", 0))
        self._programs += 1
        log_file = self.folder / f".program-{self._programs}.log"
        with log_file.open("wb") as out:
            popen = subprocess.Popen(
                ["bash", "-c", f"exec {typed}"], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                cwd=self.folder, env=self._seen(),
            )  # fmt: skip
        if variable:
            self.variables[variable] = str(popen.pid)
        return Background(popen, log_file)

    def printed(self, text: str) -> None:
        """Show what a program that was started has printed since."""
        self._gap()
        self.told[-1].shown.append(Ran("", text, 0))
        self._output(text.splitlines())

    def write(self, name: str, text: str) -> Path:
        """Show a file and write it into the folder where commands are typed."""
        content = textwrap.dedent(text).strip("\n")
        self._gap()
        self._line(f"    {self._paint(f'# cat {name}', BOLD)}")
        self.told[-1].shown.append(Ran(f"cat {name}", content, 0))
        self._output(content.splitlines())
        path = self.folder / name
        path.write_text(content + "\n")
        return path

    def wait(self, look: Callable[[], T], what: str, program: Background | None = None) -> T:
        """Wait until something has come true, see `hack.lab.until`; if it does not, tell the end of `program`'s log."""
        try:
            return until(look, READY_TIMEOUT, what)
        except LabError as error:
            said = program.log().splitlines()[-LAST_LINES:] if program else ()
            raise LabError("\n  ".join([str(error), *said])) from None

    def wait_listening(self, port: int, namespace: str = "", protocol: str = "t") -> None:
        """Wait until somebody listens on a port of a namespace, of the machine by default."""
        there = f"-N {namespace} " if namespace else ""
        command = f"ss {there}-Hln{protocol} sport = :{port}"
        self.wait(lambda: self.look(command), f"a server on port {port} {namespace}")

    def claim_that(self, holds: bool, text: str, seen: object, expected: object) -> None:
        """See `Screen.claim_that`; what holds is told."""
        super().claim_that(holds, textwrap.fill(text, TEXT, subsequent_indent="    "), seen, expected)
        if self.told:
            self.told[-1].shown.append(f"{'✓' if holds else '✗'} {text}")

    def _bash(self, command: str) -> tuple[str, int]:
        try:
            done = subprocess.run(
                ["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", check=False, timeout=COMMAND_TIMEOUT, cwd=self.folder, env=self._seen(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise LabError(f"{command}: no end after {COMMAND_TIMEOUT:g} s") from None
        return done.stdout, done.returncode

    def _seen(self) -> dict[str, str]:
        return {**self._environment, **self.variables}

    def _gap(self) -> None:
        """A blank line between text or claims and what a machine says."""
        if not (self.told[-1].shown and isinstance(self.told[-1].shown[-1], Ran)):
            self._line("")

    def _typed(self, command: str) -> None:
        first, *others = command.splitlines()
        shown = [f"# {first}", *(f"  {line}" for line in others)]
        self._gap()
        for line in shown:
            self._line(f"    {self._paint(line, BOLD)}")

    def _output(self, lines: Iterable[str]) -> None:
        for line in lines:
            folded = textwrap.wrap(
                line.expandtabs().rstrip(), TEXT - 2, subsequent_indent="    ", replace_whitespace=False,
                break_on_hyphens=False,
            )  # fmt: skip
            for part in folded or [""]:
                self._line(f"      {self._paint(part.rstrip(), CYAN)}".rstrip())

    def _text(self, text: str) -> None:
        for line in textwrap.wrap(" ".join(text.split()), TEXT):
            self._line(f"    {line}")

    def _wait_for_enter(self) -> None:
        print(self._paint("\n    Enter goes on.", DIM), end="", flush=True)
        if not sys.stdin.readline():
            print()
            self._pause = False  # there is nobody
