"""The command lines of the second program: ``kproxy ingress``, ``kproxy ingress render``, ``kproxy explain URL``."""

import argparse
import sys
from collections.abc import Sequence

from kproxy.api.manifests import ManifestError
from kproxy.config import ArgumentParser, ConfigError
from kproxy.daemon.signals import Signals
from kproxy.faults.output import put_out
from kproxy.ingress.config.flags import GROUPS, RUNNING_FLAGS, SERVING_FLAGS, add_flags, from_flags
from kproxy.ingress.daemon.init import surviving

OK, USAGE = 0, 2
_URLS = ("http://", "https://")
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

    def work() -> int:
        signals = Signals("bringing everything into force anew")
        with signals.handled():
            from kproxy.ingress.daemon.run import run

            return run(settings, lambda: from_flags(options), signals)

    return surviving(work)


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
    put_out(text)
    return OK


def explain(arguments: Sequence[str]) -> int:
    """Run ``kproxy explain`` with words that name a URL; return the exit code."""
    from kproxy.ingress.explain.question import Question, QuestionError, read_headers
    from kproxy.ingress.tools.explain import explain_files, explain_running
    from kproxy.tools.ask import NoAnswerError

    options = _explain_parser().parse_args(list(arguments))
    urls: list[str] = [options.url] if options.url else []
    files: list[str] = []
    for word in options.files:  # as in: explain -f FILE ... URL
        (urls if word.startswith(_URLS) else files).append(word)
    if len(urls) != 1:
        _complain("explain takes one URL at a time")
        return USAGE
    try:
        settings = from_flags(options)
        question = Question(url=urls[0], method=options.method, headers=read_headers(options.headers))
        in_json = options.output == "json"
        if files:
            explained = explain_files(question, files, settings, json=in_json)
        else:
            explained = explain_running(question, settings, json=in_json)
    except (ConfigError, ManifestError, QuestionError, NoAnswerError) as error:
        for line in str(error).splitlines():
            _complain(line)
        return USAGE
    for problem in explained.problems:
        _complain(str(problem))
    put_out(explained.text)
    return explained.exit_code


def _explain_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="kproxy explain",
        usage="kproxy explain http://HOST/PATH [--method METHOD] [--header 'NAME: VALUE'] [-f FILE ...] [flag ...]",
        description="Say which object and rule a request meets, and which endpoints it may get to: by the objects in "
        "files, or by what the kproxy ingress that runs here has been told.",
        epilog="Exit code: 0 where it is forwarded or redirected, 3 where it is answered with an error, 4 where no "
        "rule is met, 2 for wrong use.",
    )
    parser.add_argument("url", metavar="URL", nargs="?")
    group = parser.add_argument_group("what to explain")
    group.add_argument("--method", default="GET", metavar="METHOD", help="the request's method (default: GET)")
    group.add_argument(
        "--header", dest="headers", action="append", default=[], metavar="'NAME: VALUE'", help="a header; repeatable"
    )
    group.add_argument("-o", dest="output", choices=("text", "json"), default="text", help="the format")
    group.add_argument(
        "-f", dest="files", metavar="FILE", nargs="+", action="extend", default=[], help="a manifest; - for stdin"
    )
    add_flags(parser, _RENDER_FLAGS)
    return parser


def _complain(line: str) -> None:
    print(f"kproxy: {line}", file=sys.stderr)
