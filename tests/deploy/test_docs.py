"""The docs: what is made from the code is up to date, links lead somewhere, commands and names are there."""

import re
from pathlib import Path

import pytest

from kproxy.config.flags import FLAGS, IGNORED_FLAGS
from kproxy.ingress.config.flags import FLAGS as INGRESS_FLAGS
from kproxy.ingress.haproxy.engine import Totals
from kproxy.ingress.report.metrics import IngressMetrics, Scraped
from kproxy.node.problems import reasons
from tests.kit.deploy.docs import DOCS, PARTS, up_to_date
from tests.kit.deploy.manifests import DEPLOY, documents

PAGES = sorted([*DEPLOY.rglob("*.md"), DEPLOY.parent / "README.md", DEPLOY.parent / "hack" / "README.md"])
TEXT = {path: path.read_text() for path in PAGES}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DEPLOY.parent)))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_up_to_date(page: Path) -> None:
    assert up_to_date(TEXT[page]) == TEXT[page], "run: python -m tests.kit.deploy.docs"


def test_everything_that_can_be_made_from_the_code_stands_on_some_page() -> None:
    found = [name for text in TEXT.values() for name in re.findall(r"<!-- made from the code: ([\w-]+) -->", text)]
    assert sorted(found) == sorted(PARTS)


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@each_page
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"(?<![\w./-])((?:deploy|hack|overlays|components|monitoring)/[\w./-]*\w)", TEXT[page])
    for name in named:
        assert (DEPLOY.parent / name).exists() or (DEPLOY / name).exists(), name


NOT_ITS_OWN = r"kubectl|docker|kubeadm|buildah|apt-get|bin/pip|minikube|-m coverage|-A [A-Z]"
"""What tells lines that name kproxy, and flags of other programs: commands, and rules of iptables."""
OTHERS = ("family", "fast", "from", "header", "help", "method", "node", "protocol", "version", "watch")
"""Options of hack/test.sh, of kproxy explain and status, and of kproxy alone."""


@each_page
def test_flags_that_are_named_are_kproxys(page: Path) -> None:
    for line in TEXT[page].splitlines():
        if "kproxy" in line and not re.search(NOT_ITS_OWN, line):
            for name in re.findall(r"(?<![\w-])--([a-z][\w-]+)", line):
                assert name in {*FLAGS, *IGNORED_FLAGS, *OTHERS, *INGRESS_FLAGS}, f"--{name}"


def test_all_alerts_are_on_the_page_about_metrics() -> None:
    (rules,) = documents(DEPLOY / "monitoring" / "rules.yaml")
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert re.findall(r"^\| (Kproxy\w+) \|", TEXT[DOCS / "metrics.md"], re.MULTILINE) == alerts


def test_all_problems_of_a_node_are_on_the_page_about_trouble() -> None:
    _, _, section = TEXT[DOCS / "troubleshooting.md"].partition("## What can be wrong with the node")
    assert re.findall(r"\b(?:No|Kube|Few|Bridge|Forwarding)[A-Z]\w+", section.partition("## ")[0]) == list(reasons())


def test_all_pages_are_within_reach_of_the_readme() -> None:
    assert "(deploy/README.md)" in TEXT[DEPLOY.parent / "README.md"]
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name})" in TEXT[DEPLOY / "README.md"]


def test_every_flag_that_the_page_on_ingress_names_exists() -> None:
    named = set(re.findall(r"`--([a-z][\w-]+)`", TEXT[DOCS / "ingress.md"].partition("## From ingress-nginx")[0]))
    assert named
    assert named <= {*INGRESS_FLAGS, *OTHERS}


def test_every_metric_that_the_page_on_ingress_names_exists() -> None:
    named = set(re.findall(r"`(kproxy_ingress_\w+)", TEXT[DOCS / "ingress.md"]))
    metrics = IngressMetrics()
    totals = Totals()
    metrics.read_from(lambda: Scraped({}, (), True, totals, False, 0), lambda: ())
    exposed = re.findall(r"^# TYPE (\w+)", metrics.exposition().decode(), re.MULTILINE)
    assert named == {name for name in exposed if name.startswith("kproxy_ingress_")}
