"""What the command line says to those who get it wrong, and to those who ask."""

import subprocess
import sys

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
