"""What HAProxy counts of requests is by rule, and read as it is meant."""

from pathlib import Path

import pytest

from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.text.counts import BUCKETS, SAMPLE
from kproxy.ingress.report.traffic import CODES, parse_latency, parse_stats
from tests.ingress.haproxy.kit import Pod, engine, get, ingress, slices
from tests.ingress.kit import planned
from tests.kit.waiting import eventually

pytestmark = pytest.mark.kernel

WEB = [slices("web", ["10.1.0.1", "10.1.0.77"]), ingress("w.example.com", "web", name="web")]
API = [slices("api", ["10.1.0.2"]), ingress("a.example.com", "api", name="api")]


def slot(made: Engine, rule: str) -> str:
    configuration = made.configuration()
    assert configuration is not None
    (name,) = [name for name, one in configuration.slots.items() if one.rule == rule]
    return name


def test_requests_are_counted_by_rule_code_and_time(tmp_path: Path, three: dict[str, Pod]) -> None:
    three["b"].delay_s = 0.06
    try:
        with engine(tmp_path) as made:
            made.apply(planned(*WEB, *API).plan)
            for _ in range(5):
                get("w.example.com")
            get("a.example.com")
            get("nobody.example.com")
            web, api = slot(made, "Ingress/default/web/0"), slot(made, "Ingress/default/api/0")

            def counted() -> list[int]:
                readings, _ = parse_stats(made.ask("show stat -1 3 -1"))
                times = parse_latency(made.ask("show table latency"))
                codes = {name: dict(zip(CODES, readings[name].codes, strict=True)) for name in (web, api, "e404")}
                assert sum(readings[web].errors) > 0  # 10.1.0.77 refuses
                return [codes[web]["2xx"], codes[api]["2xx"], codes["e404"]["4xx"], sum(times[web]), sum(times[api])]

            eventually(lambda: counted() == [5, 1, 1, 5, 1])  # HAProxy is through with a request after the client
            times = parse_latency(made.ask("show table latency"))
            (slow,) = [number for number, count in enumerate(times[api]) if count]
            assert BUCKETS[slow - 1] >= 50
    finally:
        three["b"].delay_s = 0.0


@pytest.mark.usefixtures("three")
def test_a_slot_never_serves_another_rule_before_its_counters_are_at_zero(tmp_path: Path) -> None:
    with engine(tmp_path) as made:
        made.apply(planned(*WEB).plan)
        first = slot(made, "Ingress/default/web/0")
        assert made.apply(planned(*API).plan).reloaded is None
        assert slot(made, "Ingress/default/api/0") != first


def test_each_of_a_sample_stands_for_many() -> None:
    lines = ["# table", "0x1: key=b1 use=0 gpc0=2 gpc1=1", "0x2: key=b1* use=0 gpc0=3", "0x3: key=b2* use=0 gpc2=1"]
    found = parse_latency("\n".join(lines))
    assert found["b1"][:3] == (2 + 3 * SAMPLE, 1, 0)
    assert found["b2"][:3] == (0, 0, SAMPLE)
