"""The parts of deploy/docs that are made from the code: every flag, every field, every metric.

    python -m tests.kit.deploy.docs        writes them anew, between the markers in the pages

A test fails where they are not up to date.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kproxy.config import Duration, ProxyMode
from kproxy.config.decode import fields_of
from kproxy.config.flags import FLAGS, IGNORED_FLAGS, KPROXY_FLAGS, KUBE_PROXY_FLAGS
from kproxy.config.load import field_type
from kproxy.config.parser import Flag, metavar
from kproxy.config.schema import IPVS, KproxyConfiguration, KubeProxyConfiguration, LogOptions, Section, Winkernel
from tests.kit.deploy.manifests import DEPLOY
from tests.report.metrics.kit import busy

DOCS = DEPLOY / "docs"
WITHOUT_EFFECT = (IPVS, Winkernel, LogOptions)
"""Sections of kube-proxy's that mean nothing to kproxy; it warns where one is filled in."""

WITHOUT_FLAG = {
    "clientConnection.acceptContentTypes": "no effect: kproxy speaks JSON",
    "iptables.snatNodeInternalIP": "no effect: kproxy masquerades by interface",
    "logging.flushFrequency": "no effect: kproxy writes log lines at once",
    "logging.vmodule": "no effect: kproxy has one log level for all its parts",
    "nftables.masqueradeAll": "as iptables.masqueradeAll, for mode nftables",
    "portRange": "no effect, in kube-proxy neither",
    "windowsRunAsService": "no effect: kproxy does not run on Windows",
}
"""What to say about fields that no flag sets."""


def flags(table: tuple[Flag, ...]) -> Iterator[str]:
    """A table of flags."""
    yield "| flag | field | |"
    yield "|---|---|---|"
    for flag in table:
        only_flag = not any(flag.field.split(".")[0] in fields_of(root) for root in ROOTS)
        field = "" if only_flag else f"`{flag.field}`"
        yield f"| `--{flag.name}` {metavar(field_type(flag.field))} | {field} | {flag.help} |".replace(
            "|false", "\\|false"
        )


def ignored_flags() -> Iterator[str]:
    """The flags that are taken without effect, by reason."""
    for reason in dict.fromkeys(IGNORED_FLAGS.values()):
        names = ", ".join(f"`--{name}`" for name, why in IGNORED_FLAGS.items() if why == reason)
        yield f"* {names}: {reason}."


ROOTS: tuple[type[Section], ...] = (KubeProxyConfiguration, KproxyConfiguration)


def fields(root: type[Section]) -> Iterator[str]:
    """A table of all fields of a document."""
    by_field = {path: flag for flag in FLAGS.values() for path in (flag.field, *flag.also)}
    yield "| field | default | |"
    yield "|---|---|---|"
    for path, default in _leaves(root(), ""):
        flag = by_field.get(path)
        text = WITHOUT_FLAG[path] if flag is None else flag.help
        yield f"| `{path}` | {_shown(default)} | {text} |"
    for name, section in fields_of(root).items():
        if section.type in WITHOUT_EFFECT:
            yield f"| `{name}.*` | | no effect |"


def _leaves(section: Section, path: str) -> Iterator[tuple[str, object]]:
    for name, field in fields_of(type(section)).items():
        value = getattr(section, field.attribute)
        if isinstance(value, WITHOUT_EFFECT):
            continue
        if isinstance(value, Section):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (tuple, Mapping)):
        return "none" if not value else str(value)
    return str(value) if value != "" else ""


def metrics(prefix: str) -> Iterator[str]:
    """A table of all metrics with this beginning, in either mode."""
    found: dict[str, tuple[str, str, str]] = {}
    for mode in (ProxyMode.IPTABLES, ProxyMode.NFTABLES):
        for name, told in _exposed(busy(mode).exposition().decode()).items():
            found.setdefault(name, told)
    yield "| metric | labels | |"
    yield "|---|---|---|"
    for name, (kind, labels, text) in sorted(found.items()):
        if re.match(prefix, name):
            yield f"| `{name}` ({kind}) | {labels} | {text} |"


def _exposed(text: str) -> dict[str, tuple[str, str, str]]:
    """Type, labels and HELP of each metric in an exposition."""
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\S+) (.*)$", text, re.MULTILINE))
    told = {}
    for name, kind in kinds.items():
        sample = re.search(rf"^{name}(?:_bucket)?\{{(.*?)\}} ", text, re.MULTILINE)
        labels = [label for label in re.findall(r'(\w+)="', sample[1]) if label != "le"] if sample else []
        told[name] = (kind, ", ".join(labels), helps[name])
    return told


PARTS: dict[str, Any] = {
    "flags-of-kube-proxy": lambda: flags(KUBE_PROXY_FLAGS),
    "flags-of-kproxy": lambda: flags(KPROXY_FLAGS),
    "flags-without-effect": ignored_flags,
    "fields-of-kube-proxy": lambda: fields(KubeProxyConfiguration),
    "fields-of-kproxy": lambda: fields(KproxyConfiguration),
    "metrics-of-kube-proxy": lambda: metrics("(?!kproxy_)"),
    "metrics-of-kproxy": lambda: metrics("kproxy_"),
}
"""By the name in the marker ``<!-- made from the code: NAME -->``."""


def up_to_date(page: str) -> str:
    """A page with its made parts made anew."""

    def make(found: re.Match[str]) -> str:
        return f"{found[1]}\n" + "\n".join(PARTS[found[2]]()) + f"\n{found[3]}"

    pattern = r"(<!-- made from the code: ([\w-]+) -->)\n.*?(<!-- end -->)"
    return re.sub(pattern, make, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(up_to_date(path.read_text()))
