"""What a change does to requests under way: nothing. And which changes HAProxy takes up while it runs."""

import http.client
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from kproxy.ingress.haproxy.engine import Engine
from tests.ingress.haproxy.kit import Load, Pod, engine, get, ingress, slices
from tests.ingress.kit import planned
from tests.kit.waiting import eventually

pytestmark = pytest.mark.kernel

HOST = "shop.example.com"


def apply(engine: Engine, *documents: str) -> str | None:
    """Apply what some YAML says; return why HAProxy was reloaded."""
    report = engine.apply(planned(*documents).plan)
    assert not report.refused
    return report.reloaded


def assert_only(pods: set[str]) -> None:
    """Check that each of these answers sooner or later, though others are asking as well, and nobody else does."""
    seen: set[str] = set()
    while seen < pods:
        seen.add(get(HOST).pod)
    assert seen == pods


@pytest.fixture
def one(tmp_path: Path, three: dict[str, Pod]) -> Iterator[Engine]:
    assert three
    with engine(tmp_path) as made:
        apply(made, slices("web", ["10.1.0.1"]), ingress(HOST, "web"))
        yield made


def test_endpoints_come_and_go_without_a_reload_and_without_a_failure(one: Engine) -> None:
    with Load(HOST) as load:
        for addresses, pods in ((["10.1.0.1", "10.1.0.2"], {"a", "b"}), (["10.1.0.2"], {"b"}), (["10.1.0.3"], {"c"})):
            assert apply(one, slices("web", addresses), ingress(HOST, "web")) is None
            assert_only(pods)
            load.await_more(60)
            one.tidy()
    assert load.failed == []


def test_a_draining_endpoint_finishes_its_requests_and_gets_no_new_ones(one: Engine, three: dict[str, Pod]) -> None:
    three["a"].delay_s = 0.5
    three["a"].waiting.clear()
    try:
        answers: list[str] = []
        slow = threading.Thread(target=lambda: answers.append(get(HOST).pod))
        slow.start()
        assert three["a"].waiting.wait(10)
        assert apply(one, slices("web", ["10.1.0.2"], draining=["10.1.0.1"]), ingress(HOST, "web")) is None
        assert {get(HOST).pod for _ in range(10)} == {"b"}
        slow.join()
        assert answers == ["a"]
        assert apply(one, slices("web", ["10.1.0.1"]), ingress(HOST, "web")) is None
        assert get(HOST).pod == "a"
    finally:
        three["a"].delay_s = 0.0


def test_an_endpoint_that_refuses_is_passed_over(one: Engine) -> None:
    apply(one, slices("web", ["10.1.0.1", "10.1.0.77", "10.1.0.78"]), ingress(HOST, "web"))
    assert {get(HOST).pod for _ in range(12)} == {"a"}


def test_hosts_and_paths_come_change_and_go_without_a_reload_and_without_a_failure(one: Engine) -> None:
    base = [slices("web", ["10.1.0.1"]), slices("api", ["10.1.0.2"]), ingress(HOST, "web")]
    with Load(HOST) as load:
        assert apply(one, *base, ingress("api.example.com", "api")) is None
        assert get("api.example.com").pod == "b"
        assert apply(one, *base, ingress("api.example.com", "api"), ingress(HOST, "api", "/api", name="more")) is None
        assert (get(HOST, "/api/x").pod, get(HOST, "/apix").pod) == ("b", "a")
        assert apply(one, *base, ingress("api.example.com", "web")) is None
        assert (get("api.example.com").pod, get(HOST, "/api").pod) == ("a", "a")
        one.tidy()
        assert apply(one, *base) is None
        assert get("api.example.com").status == 404
    assert load.failed == []


def test_what_is_left_over_is_tidied_up(one: Engine) -> None:
    apply(one, slices("web", ["10.1.0.2"]), ingress(HOST, "web"), ingress("b.example.com", "web", "/x;y"))
    apply(one, slices("web", ["10.1.0.3"]), ingress(HOST, "web"))
    eventually(lambda: one.tidy() == 0)
    wanted = one.configuration()
    assert wanted is not None
    listed = [line.split()[1] for line in one.ask("show map maps/prefix").splitlines()]
    assert sorted(listed) == sorted(wanted.maps["prefix"])
    assert len(one.ask("show servers state b1").splitlines()) == 3
    assert len(one.ask("show servers state b2").splitlines()) == 2


def test_more_rules_than_there_are_slots_for_take_a_reload_without_a_failure(one: Engine) -> None:
    documents = [slices("web", ["10.1.0.1"]), ingress(HOST, "web")]
    with Load(HOST) as load:
        documents += [ingress(f"h{number}.example.com", "web") for number in range(40)]
        assert apply(one, *documents) == "no slot is left for a new rule"
        assert get("h39.example.com").pod == "a"
        load.await_more(60)
    assert load.failed == []
    assert apply(one, *documents, ingress("late.example.com", "web")) is None


LATE = "[NOTICE]   (7) : haproxy version is 2.6.12\n[WARNING]  (7) : Former worker (8) exited with code 0 (Exit)\n"


@pytest.mark.parametrize("said", ["", LATE], ids=["silent", "of the reload before"])
def test_a_master_that_let_a_reload_pass_is_asked_again(
    one: Engine, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one may that has only just started."""
    sent: list[int] = []

    def first_is_lost(pid: int, number: int, kill: Callable[[int, int], None] = os.kill) -> None:
        sent.append(number)
        if len(sent) > 1:
            kill(pid, number)
        else:
            with one._files.output.open("a") as output:
                output.write(said)

    monkeypatch.setattr(os, "kill", first_is_lost)
    one.settings = msgspec.structs.replace(one.settings, server_timeout=50_001)
    assert apply(one, slices("web", ["10.1.0.1"]), ingress(HOST, "web")) == "defaults has changed"
    assert sent == [signal.SIGUSR2, signal.SIGUSR2]
    assert get(HOST).pod == "a"


def test_reloads_lose_no_request(one: Engine) -> None:
    with Load(HOST) as load:
        for number in range(5):
            one.settings = msgspec.structs.replace(one.settings, server_timeout=50_000 + number)
            assert apply(one, slices("web", ["10.1.0.1"]), ingress(HOST, "web")) == "defaults has changed"
            load.await_more(30)
    assert load.failed == []


def test_a_connection_outlives_reloads(one: Engine, three: dict[str, Pod]) -> None:
    three["a"].delay_s = 1.0
    three["a"].waiting.clear()
    try:
        answers: list[str] = []
        slow = threading.Thread(target=lambda: answers.append(get(HOST).pod))
        slow.start()
        assert three["a"].waiting.wait(10)
        one.settings = msgspec.structs.replace(one.settings, server_timeout=55_000)
        apply(one, slices("web", ["10.1.0.2"]), ingress(HOST, "web"))
        slow.join()
        assert answers == ["a"]
    finally:
        three["a"].delay_s = 0.0


def _idle_client() -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
    assert _status(connection) == 200
    return connection


def _status(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/", headers={"Host": HOST})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _reload(engine: Engine, server_timeout: int) -> int:
    """Reload HAProxy; return the process that was replaced."""
    before = int(engine.ask("show info").split("Pid: ")[1].split()[0])
    engine.settings = msgspec.structs.replace(engine.settings, server_timeout=server_timeout)
    assert apply(engine, slices("web", ["10.1.0.1"]), ingress(HOST, "web")) == "defaults has changed"
    return before


def test_a_client_with_an_idle_connection_moves_over_with_its_next_request(one: Engine) -> None:
    idle = _idle_client()
    replaced = _reload(one, 55_000)
    assert Path(f"/proc/{replaced}").exists()
    assert _status(idle) == 200
    assert idle.sock is None, "the answer has to say that the connection ends"
    eventually(lambda: not Path(f"/proc/{replaced}").exists())
    idle.close()


@pytest.mark.usefixtures("three")
def test_a_client_that_never_asks_again_keeps_a_replaced_process_for_so_long_only(tmp_path: Path) -> None:
    with engine(tmp_path, drain_timeout=1_000) as made:
        apply(made, slices("web", ["10.1.0.1"]), ingress(HOST, "web"))
        idle = _idle_client()
        replaced = _reload(made, 55_000)
        eventually(lambda: not Path(f"/proc/{replaced}").exists())
        assert get(HOST).pod == "a"
        idle.close()


def test_a_restarted_kproxy_takes_a_running_haproxy_over_as_it_is(one: Engine, tmp_path: Path) -> None:
    with Load(HOST) as load:
        one.close(stop=False)  # all that is left of it after a kill, too: it has nothing to do before it ends
        with engine(tmp_path) as heir:
            assert apply(heir, slices("web", ["10.1.0.1"]), ingress(HOST, "web")) is None
            assert apply(heir, slices("web", ["10.1.0.2"]), ingress(HOST, "web")) is None
            load.await_more(60)
            assert get(HOST).pod == "b"
            heir.close(stop=False)
            (tmp_path / "state" / "state").unlink()  # as if kproxy had died in the middle of a change
            with engine(tmp_path) as second:
                assert (
                    apply(second, slices("web", ["10.1.0.3"]), ingress(HOST, "web")) == "kproxy does not know its state"
                )
                load.await_more(60)
                assert get(HOST).pod == "c"
                load.stop()
                assert load.failed == []


@pytest.mark.parametrize("victim", ["worker", "master"])
def test_haproxy_is_started_again_with_the_last_good_state(one: Engine, victim: str, tmp_path: Path) -> None:
    apply(one, slices("web", ["10.1.0.2"]), ingress(HOST, "web"))  # not what it was started with
    pid = int(one.ask("show info").split("Pid: ")[1].split()[0])
    os.kill(pid if victim == "worker" else int((tmp_path / "state/haproxy.pid").read_text()), signal.SIGKILL)
    eventually(lambda: one.totals.restarts == 1)
    eventually(one.is_serving)
    assert get(HOST).pod == "b"
    assert apply(one, slices("web", ["10.1.0.3"]), ingress(HOST, "web")) is None
    assert get(HOST).pod == "c"
