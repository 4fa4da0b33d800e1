"""All benchmarks take the same options, are found by the command that runs all, and stand in the README."""

import argparse
import importlib
import json
import re

import pytest

from hack.bench.__main__ import benchmarks, command, main
from hack.bench.options import Defaults, Size, parse, parser
from hack.bench.report import Report, ms, percentile, ratio
from tests.kit.paths import ROOT

ALL = benchmarks()
OPTIONS = ("--sizes", "--modes", "--repeats", "--output", "--quick")


def test_the_readme_has_a_row_for_each() -> None:
    text = (ROOT / "hack/bench/README.md").read_text()
    table = text.partition("<!-- benchmarks -->")[2].partition("<!-- end -->")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_each_takes_the_same_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    defaults = ALL[name]
    module = importlib.import_module(f"hack.bench.{name}" + (".__main__" if name == "soak" else ""))
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [option for option in OPTIONS if option not in said] == []
    assert f"python -m hack.bench.{name}" in said
    assert defaults.sizes, "what it measures by itself"


@pytest.mark.parametrize("name", ALL)
def test_each_says_no_to_modes_and_sizes_that_make_no_sense(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"hack.bench.{name}" + (".__main__" if name == "soak" else ""))
    for wrong in (["--modes", "ipvs"], ["--sizes", "many"], ["--sizes", "0x5"], ["--sizes", "5x-1"]):
        with pytest.raises(SystemExit) as ended:
            module.main(wrong)
        assert ended.value.code == 2
        assert wrong[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size", "shown"),
    [
        ("1000x5", Size(1000, 5), "1,000 x 5"),
        ("10,000x50", Size(10_000, 50), "10,000 x 50"),
        ("30", Size(30, 1), "30 x 1"),
    ],
)
def test_sizes(text: str, size: Size, shown: str) -> None:
    assert Size.parse(text) == size
    assert str(size) == shown
    assert Size.parse(size.plain) == size


def test_what_is_left_open_is_filled_in() -> None:
    defaults = Defaults(("10x5", "20x5"), ("a", "b"), 7, ("1x1",), 2)
    given = parse(parser("x", "…", defaults), [])
    assert (given.sizes, given.modes, given.repeats) == ([Size(10, 5), Size(20, 5)], ["a", "b"], 7)
    quick = parse(parser("x", "…", defaults), ["--quick", "--modes", "b"])
    assert (quick.sizes, quick.modes, quick.repeats) == ([Size(1, 1)], ["b"], 2)


def test_each_is_given_the_options_that_it_knows() -> None:
    options = argparse.Namespace(sizes=["5x5"], modes=["large", "nftables"], repeats=3, output="json", quick=True)
    assert command("x", Defaults(("1x1",), ("iptables", "nftables")), options)[2:] == [
        *("hack.bench.x", "--output", "json", "--sizes", "5x5", "--modes", "nftables", "--repeats", "3", "--quick"),
    ]
    assert "--modes" not in command("x", Defaults(("1x1",), ("only",)), options)


def test_all_are_run_even_after_one_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """The walk times nothing, so it can be run here; it is given a size that no one service can have."""
    assert main(["--only", "walk", "--quick"]) == 0
    assert "| 10 | large | 5.5 | 0.73 |" in capfd.readouterr().out
    assert main(["--only", "walk", "walk", "--sizes", "nothing"]) == 1
    assert capfd.readouterr().err.count("walk: exit code 2") == 2


def test_rows_as_tables_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    for output in ("markdown", "json"):
        report = Report("some", output)
        report.table("A title", "what", "number", "time", "ratio")
        report.row("one", 12345, ms(0.0123, 1), ratio(1, 3))
        report.note("A note")
    shown = capsys.readouterr().out
    assert "| one | 12,345 | 12.3 ms | 0.33 |" in shown
    row = json.loads(shown.splitlines()[-1])
    assert row["time"] == {"value": 12.3, "unit": "ms", "digits": 1}
    assert (row["bench"], row["table"], row["what"], row["number"]) == ("some", "A title", "one", 12345)
    assert shown.count("A note") == 1


def test_percentiles() -> None:
    values = [float(number) for number in range(101)]
    assert [percentile(values, percent) for percent in (0, 50, 95, 100)] == [0, 50, 95, 100]
    assert percentile([3.0], 99) == 3.0
