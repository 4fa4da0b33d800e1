"""The one exception of the lab, and the one place that turns a failed command into it."""

import subprocess
from collections.abc import Sequence


class LabError(Exception):
    """The lab could not be built or used. The message is one line that names the cause and the remedy."""


def run(command: Sequence[str], text: str = "") -> str:
    """Run a command to its end with `text` on its standard input and return what it printed.

    Raises LabError with the command's own words where it fails or is not installed.
    """
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError(f"{command[0]}: not found; hack/setup.sh installs what the lab needs") from None
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise LabError(f"{' '.join(command)}: {words}")
    return done.stdout
