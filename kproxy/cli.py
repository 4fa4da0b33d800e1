"""The command line: ``kproxy run``, ``kproxy render``, ``explain``, ``diff``, ``status``, ``cleanup``.

``kproxy ingress`` is a second program with a command line of its own (`kproxy.ingress.cli`).

Without a command, flags mean ``run``, so that a DaemonSet written for kube-proxy needs another image and nothing else.
What is wrong with a command line, a file or an object is said on standard error, one line for each, and never with a
traceback; standard output carries results only.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kproxy import __version__
from kproxy.api.manifests import ManifestError
from kproxy.config import ArgumentParser, Config, ConfigError, add_flags, from_flags
from kproxy.config.values import nearest
from kproxy.daemon.later import later
from kproxy.daemon.signals import Signals
from kproxy.faults.output import OutputError, put_out
from kproxy.state.model import IPFamily
from kproxy.wording import quote

if TYPE_CHECKING:
    from kproxy.explain import question
    from kproxy.tools import options as tools
else:  # the daemon needs neither
    question, tools = later("kproxy.explain.question"), later("kproxy.tools.options")

OK, FAILED, USAGE = 0, 1, 2


class _Command(NamedTuple):
    """A command: its name, what follows the name, and how help speaks of it."""

    name: str
    usage: str
    help: str
    description: str
    epilog: str = ""
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _: None


_COMMANDS = (
    _Command(
        "run",
        "[flag ...]",
        "watch Services and program the kernel (the default)",
        "Watch Services and EndpointSlices, at an API server or in a folder, and program the kernel.",
    ),
    _Command(
        "render",
        "-f FILE ... [flag ...]",
        "print the rules for objects in files; needs no privileges",
        "Print the rules for the objects in YAML or JSON files, in the format of iptables-save; "
        "with --proxy-mode nftables, in that of nft.",
        add_options=lambda parser: tools.add_render_options(parser),
    ),
    _Command(
        "explain",
        "DESTINATION [-f FILE ...] [flag ...]",
        "say what becomes of a connection, and why",
        "Say what becomes of a connection to DESTINATION, and why: by the objects in files, or by what the kproxy that "
        "runs on this node knows and the kernel holds.",
        "Exit code: 0 where it is forwarded, 3 where it is refused or dropped, 4 where no Service is meant, 2 for "
        "wrong use. Of http://HOST/PATH, kproxy ingress is asked: see kproxy explain http:// --help.",
        lambda parser: tools.add_explain_options(parser),
    ),
    _Command(
        "diff",
        "[-f FILE ...] [flag ...]",
        "show what would change in the kernel if kproxy synced now",
        "Show what would change in the kernel if kproxy synced now: the rules wanted against those held, Service by "
        "Service. With -f it shows what a kproxy with these objects would change on this node, on one with kube-proxy "
        "what taking over would.",
        "Exit code: 0 where nothing would change, 1 where something would, 2 in trouble.",
        lambda parser: tools.add_diff_options(parser),
    ),
    _Command(
        "status",
        "[--watch [SECONDS]] [--node ADDRESS] [flag ...]",
        "say how kproxy does: health, watches, syncs, the busiest Services",
        "Say how the kproxy that runs on this node does, or that of another node by its metrics and health ports.",
        "Exit code: 0 where all is well, 1 where it is not, or nobody answers.",
        lambda parser: tools.add_status_options(parser),
    ),
    _Command(
        "cleanup",
        "[flag ...]",
        "remove all rules of kproxy's from the kernel",
        "Remove all rules of kproxy's, in every mode and of both address families, and kube-proxy's that have the same "
        "names; nothing else. What kproxy opened by route_localnet is closed again; other sysctls stay.",
    ),
)
_NAMES = (*(command.name for command in _COMMANDS), "ingress")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; return the exit code."""
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except OutputError as error:
        if error.unwanted:
            return OK
        _complain(str(error))
        return FAILED


def _main(args: list[str]) -> int:
    if args and args[0].startswith("-") and args[0] not in ("-h", "--help", "--version"):
        args.insert(0, "run")
    other = _second_program(args)
    if other is not None:
        return other
    parser = _parser(args[0] if args else "")
    if args and not args[0].startswith("-") and args[0] not in _NAMES:
        parser.error(f"unknown command {quote(args[0])}{nearest(args[0], _NAMES)}")
    options = parser.parse_args(args)
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    if options.command == "render" and not options.files:
        _complain("render needs manifests, as in -f web.yaml (see kproxy render --help)")
        return USAGE
    try:
        config = from_flags(options)
        for warning in config.warnings if options.command != "run" else ():
            _complain(warning)
        return _dispatch(options, config)
    except (ConfigError, ManifestError, question.QuestionError) as error:
        for line in str(error).splitlines():
            _complain(line)
        return USAGE
    except BrokenPipeError:  # nobody reads what we complain of
        sys.stderr.close()
        return OK


def _second_program(args: Sequence[str]) -> int | None:
    """Run what is about HTTP, by a program of its own that nothing of this one imports; None if nothing is."""
    url = args[:1] == ["explain"] and any(word.startswith(("http://", "https://")) for word in args)
    if args[:1] != ["ingress"] and not url:
        return None
    try:
        from kproxy.ingress import cli as ingress

        return ingress.explain(args[1:]) if url else ingress.main(args[1:])
    except ModuleNotFoundError as error:
        if error.name != "cryptography":
            raise
        remedy = "use the image of kproxy ingress, or pip install 'kproxy[ingress]'"
        _complain(f"this needs the Python package cryptography: {remedy}")
        return FAILED


def _dispatch(options: argparse.Namespace, config: Config) -> int:
    if options.command == "render":
        return _render(options, config)
    if options.command == "explain":
        return _explain(options, config)
    if options.command == "diff":
        return _diff(options, config)
    if options.command == "status":
        return _status(options, config)
    if options.command == "cleanup" or config.options.cleanup:
        return _cleanup(config)
    return _run(options, config)


# The daemon is imported only where it is needed, as it takes a while: rendering needs neither the kernel's libraries
# nor the API server's.


def _cleanup(config: Config) -> int:
    from kproxy.daemon import run as daemon

    return daemon.cleanup(config)


def _run(options: argparse.Namespace, config: Config) -> int:
    from kproxy.node import memory

    memory.begin()
    signals = Signals()
    with signals.handled():  # from before that while
        from kproxy.daemon import run as daemon

        return daemon.run(config, lambda: from_flags(options), signals)


def _parser(wanted: str) -> ArgumentParser:
    """Return the parser of a command line with this command, the only one that need have options."""
    parser = ArgumentParser(
        prog="kproxy",
        description="A service proxy for Kubernetes nodes: it does what kube-proxy does.",
        epilog="Flags without a command mean run: kube-proxy's own command line works as it is.",
    )
    parser.add_argument("--version", action="version", version=f"kproxy {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        name = "[run]" if command.name == "run" else command.name
        one = commands.add_parser(
            command.name,
            usage=f"kproxy {name} {command.usage}",
            help=command.help,
            description=command.description,
            epilog=command.epilog,
        )
        if command.name == wanted:
            command.add_options(one)
            add_flags(one)
    commands.add_parser("ingress", add_help=False, help="serve HTTP to the outside, by Ingress and HTTPRoute")
    return parser


# The tools, too, are imported where they are needed: what people read is made by libraries of its own.


def _render(options: argparse.Namespace, config: Config) -> int:
    from kproxy.tools.render import RenderRequest, render_files

    families: tuple[IPFamily, ...] = options.family
    request = RenderRequest(sources=tools.sources(options), families=families, headings=len(families) > 1)
    text, problems = render_files(request, config)
    for problem in problems:
        _complain(str(problem))
    put_out(text)
    return OK


def _explain(options: argparse.Namespace, config: Config) -> int:
    from kproxy.tools.ask import NoAnswerError
    from kproxy.tools.explain import ExplainRequest, explain_daemon, explain_files

    if options.destination is None and options.files:
        options.destination = options.files.pop()  # as in: explain -f FILE ... DESTINATION
    if options.destination is None:
        raise question.QuestionError(f"explain what? Write {question.FORMS}")
    request = ExplainRequest(
        destination=options.destination,
        sender=options.sender,
        protocol=options.protocol,
        family=options.family or "",
        json=options.output == "json",
    )
    try:
        from_files = bool(options.files)
        explained = (
            explain_files(request, tools.sources(options), config) if from_files else explain_daemon(request, config)
        )
    except NoAnswerError as error:
        _complain(str(error))
        return USAGE
    for problem in explained.problems:
        _complain(str(problem))
    put_out(explained.text)
    return explained.exit_code


def _diff(options: argparse.Namespace, config: Config) -> int:
    from kproxy.backends.base import BackendError
    from kproxy.tools.ask import NoAnswerError
    from kproxy.tools.diff import TROUBLE, changes_by_daemon, changes_for, of_family, told
    from kproxy.tools.objects import as_daemon, load, views

    try:
        if options.files:
            found, problems = views(as_daemon(load(tools.sources(options), config)), config.mode.value)
            for problem in problems:
                _complain(str(problem))
            changes = changes_for(found, config)
        else:
            changes = changes_by_daemon(config)
    except (NoAnswerError, BackendError) as error:
        _complain(str(error))
        return TROUBLE
    text, code = told(of_family(changes, options.family), json=options.output == "json")
    put_out(text)
    return code


def _status(options: argparse.Namespace, config: Config) -> int:
    from kproxy.tools.ask import NoAnswerError
    from kproxy.tools.status import reader, show

    try:
        return show(reader(config, options.node), json=options.output == "json", watch_seconds=options.watch)
    except NoAnswerError as error:
        _complain(str(error))
        return FAILED
    except KeyboardInterrupt:
        return OK


def _complain(line: str) -> None:
    print(f"kproxy: {line}", file=sys.stderr)
