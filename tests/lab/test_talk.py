"""The lab's servers and clients: what servers say, how they end, and that clients report what happened."""

import threading
from collections import Counter

import pytest

from hack.lab import Lab, LabError, Outcome, Pod, until

pytestmark = pytest.mark.kernel

PATIENCE = 30.0  # seconds for what ends the wait


@pytest.fixture(scope="module")
def asking(lab: Lab) -> Pod:
    return lab.add_pod("asking")


@pytest.fixture(scope="module")
def server_pod(lab: Lab) -> Pod:
    return lab.add_pod("answering", "node-b")


def test_a_server_tells_its_name_and_the_client_it_saw(asking: Pod, server_pod: Pod) -> None:
    server_pod.serve(8001, name="shop-front")
    answer = asking.ask(server_pod.ip, 8001, source_port=45678)
    assert (answer.outcome, answer.server) == (Outcome.ANSWERED, "shop-front")
    assert (answer.source, answer.source_port) == (asking.ip, 45678)
    assert answer.seconds > 0


def test_one_pod_can_answer_on_many_addresses_and_ports(lab: Lab, asking: Pod) -> None:
    pod = lab.add_pod("crowd")
    pod.add_address("10.244.0.200")
    pod.add_address("fd00:244::200")
    for protocol in ("TCP", "UDP"):
        pod.serve(8002, protocol)
        for address in ("10.244.0.200", "fd00:244::200", pod.ip, pod.ip6):
            assert asking.ask(address, 8002, protocol).server == "crowd"


def test_a_port_that_is_taken_is_named(server_pod: Pod) -> None:
    server_pod.serve(8003)
    with pytest.raises(LabError, match=rf"cannot listen on {server_pod.ip} port 8003/TCP: Address already in use"):
        server_pod.serve(8003)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_closed_port_refuses_each_of_many_tries(asking: Pod, server_pod: Pod, family: str, protocol: str) -> None:
    tally = asking.ask_many(getattr(server_pod, family), 8004, protocol, times=60)
    assert tally.outcomes == {Outcome.REFUSED: 60}
    assert len(tally.failures) == 60
    assert not tally.servers


REJECT_BY_HAND = """\
*filter
-A FORWARD -d {0} -p {1} -j REJECT
-A OUTPUT -d {0} -p {1} -j REJECT
COMMIT
"""


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
@pytest.mark.parametrize(("family", "address"), [("ipv4", "10.96.0.99"), ("ipv6", "fd00:10:96::99")])
def test_a_reject_rule_is_heard_as_a_refusal_every_time(lab: Lab, family: str, address: str, protocol: str) -> None:
    rules = REJECT_BY_HAND.format(address, protocol.lower())
    lab.node.iptables_restore(rules, family)
    for host in (lab.pod("asking"), lab.client):
        tally = host.ask_many(address, 80, protocol, times=30)
        assert tally.outcomes == {Outcome.REFUSED: 30}
        assert not any(answer.sent_again for answer in tally.answers), "at once, not with the second SYN"
    lab.node.iptables_restore(rules.replace("-A ", "-D "), family)


REJECT_THE_SECOND = """\
*filter
-A OUTPUT -d 10.96.0.97 -m recent --set --name again
-A OUTPUT -d 10.96.0.97 -m recent --rcheck --hitcount 2 --name again -j REJECT
-A OUTPUT -d 10.96.0.97 -j DROP
COMMIT
"""


def test_a_refusal_of_the_second_syn_is_told_from_one_of_the_first(lab: Lab) -> None:
    lab.node.iptables_restore(REJECT_THE_SECOND)
    answer = lab.node.ask("10.96.0.97", 80, timeout=PATIENCE)
    assert (answer.outcome, answer.sent_again) == (Outcome.REFUSED, 1)
    lab.node.iptables_restore(REJECT_THE_SECOND.replace("-A ", "-D "))


def test_a_series_of_drops_ends_early(asking: Pod) -> None:
    assert asking.ask_many("10.96.0.98", 80, times=100, timeout=0.1).outcomes == {Outcome.DROPPED: 3}


def test_a_tally_counts_servers_and_the_sources_they_saw(lab: Lab, asking: Pod, server_pod: Pod) -> None:
    lab.node.serve(8005, name="the-node")
    server_pod.serve(8005)
    answers = [
        lab.client.ask(lab.node.ip, 8005),
        *lab.client.ask_many(lab.node.ip, 8005, times=4, source="192.0.2.9").answers,
        *asking.ask_many(server_pod.ip, 8005, times=3).answers,
    ]
    tally = type(lab.client.ask_many(lab.node.ip, 8005, times=0))(tuple(answers))
    assert tally.servers == Counter({"the-node": 5, "answering": 3})
    assert tally.sources == Counter({"192.0.2.7": 1, "192.0.2.9": 4, asking.ip: 3})


def test_an_open_connection_echoes_until_the_server_is_closed(asking: Pod, server_pod: Pod) -> None:
    server = server_pod.serve(8006)
    with asking.connect(server_pod.ip, 8006) as connection:
        assert connection.server == "answering"
        assert connection.echo(b"x" * 100_000)
        assert server.connections == 1
        server.close()
        assert not connection.echo()
    assert asking.ask(server_pod.ip, 8006).outcome is Outcome.REFUSED


def test_a_draining_server_refuses_the_new_and_finishes_the_old(asking: Pod, server_pod: Pod) -> None:
    server = server_pod.serve(8007)
    ended_by_themselves: list[bool] = []
    with asking.connect(server_pod.ip, 8007) as connection:
        drain = threading.Thread(target=lambda: ended_by_themselves.append(server.drain(timeout=PATIENCE)))
        drain.start()
        until(lambda: asking.ask(server_pod.ip, 8007).outcome is Outcome.REFUSED, PATIENCE, "a refusal")
        assert connection.echo()
    drain.join()
    assert ended_by_themselves == [True]


def test_draining_gives_up_on_clients_that_stay(asking: Pod, server_pod: Pod) -> None:
    server = server_pod.serve(8008)
    with asking.connect(server_pod.ip, 8008) as connection:
        assert not server.drain(timeout=0.1)
        assert not connection.echo()


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_udp_flow_keeps_its_port(asking: Pod, server_pod: Pod, family: str) -> None:
    server = server_pod.serve(8009, "UDP")
    with asking.flow(getattr(server_pod, family), 8009, source_port=40000) as flow:
        assert [flow.ask(timeout=PATIENCE).source_port for _ in range(3)] == [40000] * 3
        server.close()
        assert flow.ask(timeout=PATIENCE).outcome is Outcome.REFUSED


def test_a_load_sees_a_server_go_and_come_back(asking: Pod, server_pod: Pod) -> None:
    server = server_pod.serve(8010)
    with asking.load(server_pod.ip, 8010, every=0.001) as load:
        until(lambda: load.tally.servers["answering"] > 5, PATIENCE, "first answers")
        server.close()
        until(lambda: load.tally.failures, PATIENCE, "a refusal")
        server_pod.serve(8010, name="successor")
        until(lambda: load.tally.servers["successor"] > 5, PATIENCE, "the successor's answers")
    assert set(load.tally.outcomes) <= {Outcome.ANSWERED, Outcome.REFUSED, Outcome.CUT}


def test_connecting_where_nobody_is_raises(asking: Pod, server_pod: Pod) -> None:
    with pytest.raises(ConnectionRefusedError):
        asking.connect(server_pod.ip, 8011)
