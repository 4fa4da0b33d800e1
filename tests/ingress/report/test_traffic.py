"""HAProxy's counts, added up over its processes."""

from kproxy.ingress.haproxy.text.counts import BUCKETS
from kproxy.ingress.haproxy.text.model import Slot
from kproxy.ingress.report.traffic import (
    GONE_SECONDS,
    Reading,
    Traffic,
    Way,
    cumulative,
    nothing,
    parse_info,
    parse_latency,
    parse_stats,
)

WEB = Slot(rule="Ingress/default/web/0", backend="default/web:80")
SHOP = Slot(rule="Ingress/default/shop/0", backend="default/shop:80")
WAY = Way(WEB.rule, WEB.backend)
STATS = """# pxname,svname,scur,econ,eresp,wretr,wredis,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,-,
f80-1,FRONTEND,4,,,,,0,7,0,1,0,-,
e404,BACKEND,0,0,0,0,0,0,0,0,3,0,-,
b1,10.0.0.1:80,0,1,0,2,0,0,5,0,0,1,-,
b1,BACKEND,0,1,0,2,0,0,5,0,0,1,-,
"""


def reading(ok: int) -> Reading:
    return nothing()._replace(codes=(0, ok, 0, 0, 0))


def counted(traffic: Traffic, way: Way = WAY) -> int:
    return traffic.totals[way].reading.codes[1]


def test_differences_are_added_up_over_processes() -> None:
    traffic = Traffic()
    for worker, ok in (("1", 3), ("1", 5), ("2", 2), ("2", 2), ("2", 4)):
        traffic.take((worker, ""), {"b1": reading(ok)}, {"b1": WEB}, 0.0)
    assert counted(traffic) == 5 + 4


def test_a_slot_may_serve_another_route_in_another_process() -> None:
    traffic = Traffic()
    traffic.take(("1", ""), {"b1": reading(3)}, {"b1": WEB}, 0.0)
    traffic.take(("2", ""), {"b1": reading(2)}, {"b1": SHOP}, 0.0)
    assert counted(traffic) == 3
    assert counted(traffic, Way(SHOP.rule, SHOP.backend)) == 2


def test_what_a_route_has_counted_is_kept_for_a_while_after_its_end() -> None:
    traffic = Traffic()
    traffic.take(("1", ""), {"b1": reading(3)}, {"b1": WEB}, 0.0)
    traffic.take(("1", ""), {"b1": reading(4)}, {"b1": Slot()}, 10.0)
    assert counted(traffic) == 4
    traffic.take(("1", ""), {"b1": reading(4)}, {"b1": Slot()}, 11.0 + GONE_SECONDS)
    assert WAY not in traffic.totals


def test_spares_and_routes_without_requests_are_not_shown() -> None:
    traffic = Traffic()
    traffic.take(("1", ""), {"b1": nothing(), "b2": nothing()}, {"b1": WEB, "b2": Slot()}, 0.0)
    assert traffic.totals == {}


def test_requests_that_meet_no_rule_are_counted_for_good() -> None:
    traffic = Traffic()
    readings, frontends = parse_stats(STATS)
    traffic.take(("1", ""), readings, {"b1": WEB}, 0.0)
    traffic.take(("2", ""), {}, {}, 10 * GONE_SECONDS)
    assert traffic.totals[Way("none", "")].reading.codes == (0, 0, 0, 3, 0)
    assert [(one.name, one.connections) for one in frontends] == [("f80-1", 4)]


def test_errors_and_retries_are_read() -> None:
    readings, _ = parse_stats(STATS)
    assert readings["b1"].errors == (1, 0, 2, 0)
    assert readings["b1"].codes == (0, 5, 0, 0, 1)


def test_the_histogram_is_read_and_made_cumulative() -> None:
    counts = " ".join(f"gpc{number}={number}" for number in range(len(BUCKETS) + 1))
    found = parse_latency(f"# table: latency, type: string\n0x5: key=b1 use=0 exp=0 {counts}\n")
    assert found == {"b1": tuple(range(len(BUCKETS) + 1))}
    lines = dict(cumulative(found["b1"]))
    assert lines["0.001"] == 0
    assert lines["0.005"] == 0 + 1 + 2
    assert lines["+Inf"] == sum(range(len(BUCKETS) + 1))


def test_info_is_read() -> None:
    assert parse_info("Name: HAProxy\nPid: 7\nno colon\n") == {"Name": "HAProxy", "Pid": "7"}
