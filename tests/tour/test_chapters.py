"""Each chapter of the tour, played as its reader would play it: all that it tells is seen, and nothing stays behind."""

import re
import subprocess
from pathlib import Path

import pytest

from hack.tour.chapters import CHAPTERS, Chapter
from tests.tour.kit import spoiled, tour

pytestmark = pytest.mark.kernel

COLUMNS = 80
CLAIMS = {"wires": 15, "docker0": 16, "pod": 24, "service": 23, "name": 26, "host": 26}
"""How many there are in each chapter: none may get lost."""
NAMES = [chapter.name for chapter in CHAPTERS]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_all_that_a_chapter_tells_is_seen(chapter: Chapter) -> None:
    played = tour(chapter.name)
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stderr == ""
    assert "✗" not in played.stdout
    assert played.stdout.count("  ✓ ") == CLAIMS[chapter.name]
    assert f"\nAll {CLAIMS[chapter.name]} claims were seen, in " in played.stdout
    assert [line for line in played.stdout.splitlines() if len(line) > COLUMNS] == []
    steps = re.findall(rf"^{chapter.number}\.(\d+)  \S.* [\d.]+ s$", played.stdout, re.MULTILINE)
    assert steps == [str(number + 1) for number in range(len(steps))]
    assert len(steps) >= len(chapter.story().steps)


@pytest.mark.parametrize(
    ("chapter", "tool", "word", "instead", "told"),
    [
        ("wires", "ip", "'route add'", "exit 0", "chapter 1: ip -n red route get"),
        ("wires", "bridge", "fdb", "exit 0", "✗ the bridge knows that it is behind veth-green"),
        ("docker0", "iptables", "MASQUERADE", "exit 0", "chapter 2: ip netns exec box1 ping"),
        ("docker0", "iptables", "--dport", "exit 0", "chapter 2: ip netns exec outside curl"),
        ("pod", "nsenter", "hostname", "exit 0", "✗ the helper hears web on localhost"),
        ("pod", "ip", "'netns attach item'", "exit 1", "chapter 3: ip netns attach item"),
        ("service", "sort", "", "sed s/item-3/item-1/ | exec /usr/bin/sort; exit 0", "✗ each pod got its fair share"),
        ("name", "dig", "nothing.shop", "echo ';; status: NOERROR'; exit 0", "✗ there is no Service `nothing`"),
        ("host", "dig", "shop", "echo 192.0.2.99; exit 0", "✗ shop.example.com is the ingress' address outside"),
        ("docker0", "conntrack", "-L", "echo src=1.2.3.4 dst=1.2.3.5", "✗ before, conntrack had no entry"),
    ],
)  # fmt: skip
def test_what_is_not_so_is_not_claimed(
    tmp_path: Path, chapter: str, tool: str, word: str, instead: str, told: str
) -> None:
    played = tour(chapter, env=spoiled(tmp_path, tool, word, instead))
    assert played.returncode == 1
    assert told in played.stdout + played.stderr
    assert "Traceback" not in played.stderr


def test_chapters_are_chosen_by_number_and_name_and_played_in_that_order() -> None:
    played = tour("docker", "1")
    titles = re.findall(r"^── (\d)  ", played.stdout, re.MULTILINE)
    assert (played.returncode, titles) == (0, ["2", "1"])
    assert "2 chapters, and all was as told, in " in played.stdout


def test_one_chapter_that_fails_stops_no_other(tmp_path: Path) -> None:
    played = tour("docker0", "wires", env=spoiled(tmp_path, "iptables", "MASQUERADE"))
    assert played.returncode == 1
    assert "All 15 claims were seen" in played.stdout
    assert "Not all was as told in: 2 Out of the machine" in played.stdout


def test_an_unknown_chapter_is_named_with_those_there_are() -> None:
    played = tour("seven")
    assert played.returncode == 2
    assert played.stderr.startswith("hack/tour.sh: argument CHAPTER: there is no chapter 'seven'; there are 1 or wires")
    assert played.stderr.count("\n") == 1


def test_help_lists_the_chapters() -> None:
    shown = tour("--help").stdout
    for chapter in CHAPTERS:
        assert re.search(rf"^  {chapter.number}  {chapter.name} +{re.escape(chapter.title)}$", shown, re.MULTILINE)


def test_pause_waits_for_enter_before_each_step_but_the_first() -> None:
    played = tour("--pause", "wires", text="\n" * 7)
    assert played.returncode == 0
    assert played.stdout.count("Enter goes on.") == 7


def test_pause_goes_on_where_nobody_is() -> None:
    played = tour("--pause", "wires")
    assert played.returncode == 0
    assert played.stdout.count("Enter goes on.") == 1


def test_stay_leaves_the_chapter_standing_with_a_shell_in_it() -> None:
    played = tour("wires", "--stay", text="ip netns exec blue ping -c 1 192.168.1.1\nhostname\n")
    assert played.returncode == 0
    assert re.search(r"In another terminal: nsenter --target \d+ --all", played.stdout)
    assert "1 received, 0% packet loss" in played.stdout
    assert "\nmachine\n" in played.stdout
    assert "Taken down" not in played.stdout


def test_a_chapter_touches_nothing_of_the_machine() -> None:
    def seen() -> list[str]:
        links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
        rules = subprocess.run(["iptables", "-t", "nat", "-S"], capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in links.splitlines() if "tour" in line or "docker0" in line] + [
            line for line in rules.splitlines() if "172.17" in line
        ]

    before = seen(), Path("/etc/netns").exists(), Path("/run/tour").exists()
    assert tour("docker0").returncode == 0
    assert (seen(), Path("/etc/netns").exists(), Path("/run/tour").exists()) == before
