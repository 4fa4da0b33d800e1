"""The tracker: what is pending, and what is held."""

from typing import Any

import pytest

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind
from kproxy.api.types import EndpointSlice, ObjectKey, Service
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from kproxy.state.tracker import Tracker

WEB = ServicePortName("shop", "web", "http", Protocol.TCP)
ADMIN = ServicePortName("shop", "web", "admin", Protocol.TCP)
KEY = ObjectKey("shop", "web")
SLICE = ObjectKey("shop", "web-1")


def service(*ports: str, **spec: Any) -> Service:
    numbers = [{"name": name, "port": 80 + index} for index, name in enumerate(ports)]
    raw = {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.10", "ports": numbers} | spec,
    }
    found = convert_object(Kind.SERVICE, raw).object
    assert isinstance(found, Service)
    return found


def endpoint_slice(
    *ips: str | dict[str, Any], name: str = "web-1", owner: str | None = "web", port: str = "http", kind: str = "IPv4"
) -> EndpointSlice:
    endpoints = [ip if isinstance(ip, dict) else {"addresses": [ip]} for ip in ips]
    labels = {"kubernetes.io/service-name": owner} if owner is not None else {}
    raw = {
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "addressType": kind,
        "endpoints": endpoints,
        "ports": [{"name": port, "port": 8080}],
    }
    found = convert_object(Kind.ENDPOINT_SLICE, raw).object
    assert isinstance(found, EndpointSlice)
    return found


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(IPFamily.IPV4, "node-a")


def settle(tracker: Tracker) -> None:
    tracker.applied(list(tracker.pending))


def ips(tracker: Tracker, name: ServicePortName = WEB) -> list[str]:
    return [endpoint.ip for endpoint in tracker.endpoints(name)]


def test_a_new_service_is_pending_with_all_its_ports(tracker: Tracker) -> None:
    assert tracker.update_service(service("http", "admin")).changed
    assert tracker.pending == {WEB, ADMIN}


def test_the_same_again_is_no_change(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    settle(tracker)
    assert not tracker.update_service(service("http")).changed
    assert not tracker.update_slice(endpoint_slice("10.244.0.11")).changed
    assert tracker.pending == set()


def test_only_the_port_that_changed_is_pending(tracker: Tracker) -> None:
    tracker.update_service(service("http", "admin"))
    settle(tracker)
    tracker.update_service(service("http"))
    assert tracker.pending == {ADMIN}


def test_a_change_for_all_ports_makes_all_pending(tracker: Tracker) -> None:
    tracker.update_service(service("http", "admin"))
    settle(tracker)
    tracker.update_service(service("http", "admin", externalIPs=["198.51.100.1"]))
    assert tracker.pending == {WEB, ADMIN}


def test_a_deleted_service_stays_pending_until_applied(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    settle(tracker)
    assert tracker.delete_service(KEY).changed
    assert tracker.pending == {WEB}
    assert WEB not in tracker.ports
    assert not tracker.delete_service(KEY).changed
    assert tracker.pending == {WEB}
    settle(tracker)
    assert tracker.pending == set()


def test_what_changes_while_a_sync_runs_is_not_lost(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    taken = list(tracker.pending)
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    tracker.update_service(service("http", "admin"))
    tracker.applied(taken)
    assert tracker.pending == {ADMIN}


def test_slices_without_a_service_need_no_programming(tracker: Tracker) -> None:
    assert tracker.update_slice(endpoint_slice("10.244.0.11")).changed
    assert tracker.pending == set()
    tracker.update_service(service("http"))
    assert tracker.pending == {WEB}
    assert ips(tracker) == ["10.244.0.11"]


def test_slices_outlive_their_service(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    tracker.delete_service(KEY)
    tracker.update_service(service("http"))
    assert ips(tracker) == ["10.244.0.11"]
    tracker.delete_service(KEY)
    settle(tracker)
    tracker.delete_slice(SLICE)
    assert tracker.pending == set()


def test_a_slice_that_goes_takes_its_endpoints_along(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    tracker.update_slice(endpoint_slice("10.244.0.12", name="web-2"))
    settle(tracker)
    assert tracker.delete_slice(SLICE).changed
    assert tracker.pending == {WEB}
    assert ips(tracker) == ["10.244.0.12"]
    assert not tracker.delete_slice(SLICE).changed


def test_a_slice_may_pass_to_another_service(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    settle(tracker)
    assert tracker.update_slice(endpoint_slice("10.244.0.11", owner="other")).changed
    assert tracker.pending == {WEB}
    assert ips(tracker) == []


def test_a_slice_that_is_nobodys_any_more(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    settle(tracker)
    assert tracker.update_slice(endpoint_slice("10.244.0.11", owner=None)).changed
    assert tracker.pending == {WEB}
    assert ips(tracker) == []


def test_a_port_that_changes_its_name_is_two_changes(tracker: Tracker) -> None:
    tracker.update_service(service("http", "admin"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    settle(tracker)
    tracker.update_slice(endpoint_slice("10.244.0.11", port="admin"))
    assert tracker.pending == {WEB, ADMIN}
    assert (ips(tracker), ips(tracker, ADMIN)) == ([], ["10.244.0.11"])


def test_the_other_family_is_no_business_of_this_one(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    settle(tracker)
    assert not tracker.update_slice(endpoint_slice("fd00:244::11", kind="IPv6")).changed
    assert ips(tracker) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_accounts_of_one_address_the_better_counts(tracker: Tracker, reverse: bool) -> None:
    leaving = {"addresses": ["10.244.0.11"], "conditions": {"ready": False, "serving": True, "terminating": True}}
    ready = {"addresses": ["10.244.0.11"], "conditions": {"ready": True}}
    one, other = (ready, leaving) if reverse else (leaving, ready)
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice(one))
    tracker.update_slice(endpoint_slice(other, name="web-2"))
    (endpoint,) = tracker.endpoints(WEB)
    assert endpoint.ready


def test_a_local_account_beats_a_ready_one(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice({"addresses": ["10.244.0.11"], "nodeName": "node-b"}))
    here = {"addresses": ["10.244.0.11"], "nodeName": "node-a", "conditions": {"ready": False}}
    tracker.update_slice(endpoint_slice(here, name="web-2"))
    (endpoint,) = tracker.endpoints(WEB)
    assert endpoint.is_local
    assert not endpoint.ready


def test_endpoints_come_in_the_order_of_their_text(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice("10.244.0.9", "10.244.0.100"))
    tracker.update_slice(endpoint_slice("10.244.0.11", name="web-0"))
    assert ips(tracker) == ["10.244.0.100", "10.244.0.11", "10.244.0.9"]


def test_what_a_fresh_list_lacks_is_gone(tracker: Tracker) -> None:
    tracker.update_service(service("http"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    tracker.update_slice(endpoint_slice("10.244.0.12", name="web-2", owner="nobody"))
    assert tracker.services_missing_from([]) == [KEY]
    assert tracker.services_missing_from([KEY]) == []
    assert set(tracker.slices_missing_from([SLICE])) == {ObjectKey("shop", "web-2")}


def test_problems_are_handed_on(tracker: Tracker) -> None:
    change = tracker.update_service(service("http", "http"))
    assert [str(problem) for problem in change.problems] == [
        "Service shop/web: spec.ports[1]: port 'http' 81/tcp is there twice; the first one counts"
    ]
    assert tracker.update_slice(endpoint_slice("nowhere")).problems[0].field == "endpoints[0].addresses[0]"


def test_a_slice_of_an_unknown_type_is_named(tracker: Tracker) -> None:
    change = tracker.update_slice(endpoint_slice("10.244.0.11", kind="IPv5"))
    assert [str(problem) for problem in change.problems] == [
        "EndpointSlice shop/web-1: addressType: 'IPv5' is not one of IPv4, IPv6, FQDN; the slice is ignored"
    ]
    assert tracker.update_slice(endpoint_slice("www.example.com", kind="FQDN")).problems == ()


@pytest.mark.parametrize("owner", [None, ""])
def test_a_slice_that_names_no_service_is_told_of(tracker: Tracker, owner: str | None) -> None:
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    change = tracker.update_slice(endpoint_slice("10.244.0.11", owner=owner))
    assert [str(problem) for problem in change.problems] == [
        'EndpointSlice shop/web-1: metadata.labels["kubernetes.io/service-name"]: missing; it names the Service, and '
        "without it the slice is ignored"
    ]
    assert tracker.endpoints(WEB) == ()
    assert tracker.update_slice(endpoint_slice("www.example.com", owner=owner, kind="FQDN")).problems == ()


def test_everything_pending(tracker: Tracker) -> None:
    tracker.update_service(service("http", "admin"))
    settle(tracker)
    tracker.everything_pending()
    assert tracker.pending == {WEB, ADMIN}


def test_names_are_held_once_however_often_slices_change(tracker: Tracker) -> None:
    """Whoever hears of a change keeps its name: a new one each time would be one more for every Service."""
    tracker.update_service(service("http"))
    (held,) = tracker.ports
    for ip in ("10.0.0.1", "10.0.0.2"):
        settle(tracker)
        tracker.update_slice(endpoint_slice(ip))
        assert [name is held for name in tracker.pending] == [True]


def test_a_list_that_brings_nothing_new_leaves_what_is_held_as_it_is(tracker: Tracker) -> None:
    """All of a cluster's objects made anew, among those that go again, would leave holes all over the memory."""
    for _ in range(2):
        tracker.update_service(service("http", "admin"))
        tracker.update_slice(endpoint_slice("10.0.0.1"))
        held = [*tracker.ports.values(), *tracker.ports, tracker.slices_of(KEY)["web-1"]]
        settle(tracker)
    assert not tracker.update_service(service("http", "admin")).changed
    assert not tracker.update_slice(endpoint_slice("10.0.0.1")).changed
    now = [*tracker.ports.values(), *tracker.ports, tracker.slices_of(KEY)["web-1"]]
    assert [one is other for one, other in zip(held, now, strict=True)] == [True] * 5
    assert not tracker.pending
