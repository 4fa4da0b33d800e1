"""What the command line says to those who get it wrong, and to those who ask."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from kproxy import cli
from tests.kit.paths import ROOT

COMMANDS = ("run", "render", "cleanup")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["rum"], "kproxy: unknown command 'rum'; did you mean run? (see kproxy --help)"),
        (["version"], "kproxy: unknown command 'version' (see kproxy --help)"),
        (["run", "now"], "kproxy run: unexpected argument 'now' (see kproxy run --help)"),
        (
            ["--kubconfig=x"],
            "kproxy run: unknown flag '--kubconfig'; did you mean --kubeconfig? (see kproxy run --help)",
        ),
        (
            ["render", "-f", "x", "--family", "ipv5"],
            "kproxy render: argument --family: 'ipv5' is none of ipv4, ipv6 and all (see kproxy render --help)",
        ),
        (
            ["render", "-f", "x", "--interface-address", "eth0"],
            "kproxy render: argument --interface-address: 'eth0' is not an address such as 10.0.0.1/24 "
            "(see kproxy render --help)",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(args)
    assert (exit_.value.code, capsys.readouterr()) == (2, ("", f"{line}\n"))


def test_render_without_a_file_is_a_mistake_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render"]) == 2
    said = "kproxy: render needs manifests, as in -f web.yaml (see kproxy render --help)\n"
    assert capsys.readouterr() == ("", said)


def test_without_arguments_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert all(f"\n    {command} " in output.err for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_what_is_the_commands_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    usage, _, rest = capsys.readouterr().out.partition("\n")
    assert usage.startswith("usage: kproxy ")
    assert command in usage
    assert ("  -f FILE" in rest.partition("settings")[0]) is (command == "render")


@pytest.mark.parametrize("arguments", [["ingress", "--manifests", "."], ["explain", "http://shop.example.com/"]])
def test_where_the_second_program_lacks_its_library_it_says_so(arguments: list[str]) -> None:
    """As in the image of the service proxy, which has no use for it."""
    program = "import sys; sys.modules['cryptography'] = None; from kproxy import cli; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert done.returncode == 1
    said = "use the image of kproxy ingress, or pip install 'kproxy[ingress]'"
    assert done.stderr == f"kproxy: this needs the Python package cryptography: {said}\n"


def full() -> TextIO:
    return Path("/dev/full").open("w")


def closed() -> TextIO:
    """As after `head` has seen enough."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


SHOP = ["-f", *map(str, sorted((ROOT / "hack/demo/shop").glob("*.yaml")))]


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        (full, 1, "kproxy: the result can't be written to standard output: No space left on device\n"),
        (closed, 0, ""),
    ],
)
@pytest.mark.parametrize(
    "args",
    [
        ["render", *SHOP],
        ["explain", "10.96.0.80:80", *SHOP],
        ["run", "--write-config-to", "-"],
        ["ingress", "render", *SHOP],
        ["explain", *SHOP, "http://shop.example.com/"],
    ],
    ids=["render", "explain", "write-config", "ingress render", "explain URL"],
)
def test_where_results_go_nowhere_it_says_so_in_one_line_or_nothing_where_nobody_reads_on(
    args: list[str],
    output: Callable[[], TextIO],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with output() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(args) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("output", "code"), [(full, 1), (closed, 0)])
def test_python_has_nothing_to_add_at_its_end(output: Callable[[], TextIO], code: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "kproxy", "render", *SHOP]
    with output() as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == code
