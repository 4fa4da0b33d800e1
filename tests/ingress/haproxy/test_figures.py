"""What HAProxy has counted, by rule and by endpoint, over reloads and reassignments."""

from pathlib import Path

import msgspec
import pytest

from kproxy.ingress.haproxy.text.counts import BUCKETS, Use
from tests.ingress.haproxy.kit import Pod, engine, get, ingress, slices
from tests.ingress.kit import planned

pytestmark = pytest.mark.kernel

WEB, API = Use("Ingress/default/web/0", "default/web:80"), Use("Ingress/default/api/0", "default/api:80")
WEB_OBJECTS = [slices("web", ["10.1.0.1", "10.1.0.77"]), ingress("w.example.com", "web", name="web")]
API_OBJECTS = [slices("api", ["10.1.0.2"]), ingress("a.example.com", "api", name="api")]


def test_requests_are_counted_by_rule_code_and_time(tmp_path: Path, three: dict[str, Pod]) -> None:
    three["b"].delay_s = 0.06
    try:
        with engine(tmp_path) as made:
            made.apply(planned(*WEB_OBJECTS, *API_OBJECTS).plan)
            for _ in range(5):
                get("w.example.com")
            get("a.example.com")
            get("nobody.example.com")
            found = made.figures()
            assert {code: number for code, number in found.counts[WEB].codes.items() if number} == {"2xx": 5}
            assert found.counts[Use("e404")].codes["4xx"] == 1
            assert found.counts[WEB].retries + found.counts[WEB].redispatches > 0  # 10.1.0.77 refuses
            (slow,) = [number for number, count in enumerate(found.counts[API].buckets) if count]
            assert BUCKETS[slow - 1] >= 50
            assert sum(found.counts[WEB].buckets) == 5
            assert {(one.server, one.status) for one in found.endpoints if one.use == API} == {
                ("10.1.0.2:8080", "no check")
            }
    finally:
        three["b"].delay_s = 0.0


@pytest.mark.usefixtures("three")
def test_counts_outlive_a_reload_and_are_never_anothers(tmp_path: Path) -> None:
    with engine(tmp_path) as made:
        made.apply(planned(*WEB_OBJECTS).plan)
        for _ in range(3):
            get("w.example.com")
        made.settings = msgspec.structs.replace(made.settings, server_timeout=50_000)
        assert made.apply(planned(*WEB_OBJECTS).plan).reloaded
        get("w.example.com")
        assert made.figures().counts[WEB].requests == 4
        assert made.apply(planned(*API_OBJECTS).plan).reloaded is None
        get("a.example.com")
        assert made.figures().counts[API].requests == 1
