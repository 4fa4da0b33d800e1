"""The command line of the second program: ``kproxy ingress`` and ``kproxy ingress render``."""

import argparse
import sys
from collections.abc import Sequence

from kproxy.api.manifests import ManifestError
from kproxy.config import ArgumentParser, ConfigError
from kproxy.daemon.signals import Signals
from kproxy.ingress.config.flags import GROUPS, RUNNING_FLAGS, SERVING_FLAGS, add_flags, from_flags

OK, USAGE = 0, 2
_RENDER_FLAGS = {
    "settings": (*SERVING_FLAGS, *(flag for flag in RUNNING_FLAGS if flag.name in ("config", "state-dir", "threads")))
}


def main(arguments: Sequence[str]) -> int:
    """Run ``kproxy ingress`` with the words that follow; return the exit code."""
    render = bool(arguments) and arguments[0] == "render"
    options = _parser(render=render).parse_args(list(arguments[1:] if render else arguments))
    try:
        settings = from_flags(options)
        if render:
            return _render(options)
    except (ConfigError, ManifestError) as error:
        for line in str(error).splitlines():
            _complain(line)
        return USAGE
    except BrokenPipeError:  # somebody closed our output early, as `head` does
        sys.stderr.close()
        return OK
    signals = Signals("bringing everything into force anew")
    with signals.handled():
        from kproxy.ingress.daemon.run import run

        return run(settings, lambda: from_flags(options), signals)


def _parser(*, render: bool) -> ArgumentParser:
    if not render:
        parser = ArgumentParser(
            prog="kproxy ingress",
            usage="kproxy ingress [render] [flag ...]",
            description="Serve Ingresses and HTTPRoutes, of an API server or from a folder, by HAProxy.",
            epilog="At SIGTERM HAProxy finishes its requests, and both end; see --shutdown-timeout, --leave-haproxy. "
            "See also kproxy ingress render --help.",
        )
        add_flags(parser, GROUPS)
        return parser
    parser = ArgumentParser(
        prog="kproxy ingress render",
        usage="kproxy ingress render -f FILE ... [flag ...]",
        description="Print HAProxy's configuration and maps for the objects in files; needs no privileges.",
    )
    group = parser.add_argument_group("what to render")
    group.add_argument(
        "-f", dest="files", metavar="FILE", nargs="+", action="extend", default=[], help="a manifest; - for stdin"
    )
    add_flags(parser, _RENDER_FLAGS)
    return parser


def _render(options: argparse.Namespace) -> int:
    from kproxy.ingress.tools.render import render_files

    if not options.files:
        _complain("render needs manifests, as in -f web.yaml (see kproxy ingress render --help)")
        return USAGE
    text, problems = render_files(options.files, from_flags(options))
    for problem in problems:
        _complain(str(problem))
    sys.stdout.write(text)
    sys.stdout.flush()
    return OK


def _complain(line: str) -> None:
    print(f"kproxy: {line}", file=sys.stderr)
