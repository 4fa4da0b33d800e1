"""The test API server's store: any past state can be listed, and any watch ends at what a list shows."""

import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.apiserver.kinds import Json, kind_named, parse_path
from tests.kit.apiserver.objects import make_cluster, make_node, make_service, make_slice
from tests.kit.apiserver.rest.store import ExpiredError, Store
from tests.kit.apiserver.rest.watching import Watch

SERVICES = kind_named("services")
SELECTOR = "tier!=hidden"

NAMES = st.sampled_from(["a", "b", "b-2", "c"])
NAMESPACES = st.sampled_from(["shop", "shop-2"])
TIERS = st.sampled_from(["front", "hidden", None])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "delete"]), NAMESPACES, NAMES, TIERS), max_size=25)
Step = tuple[str, str, str, str | None]


def take_step(store: Store, step: Step) -> None:
    action, namespace, name, tier = step
    if action == "put":
        store.put(make_service(name, namespace, labels={"tier": tier} if tier is not None else None))
    else:
        store.delete(SERVICES, namespace, name)


def present(store: Store, version: int | None = None) -> list[Json]:
    return [stored.decoded() for stored in store.state(SERVICES, version)]


def replay(state: dict[tuple[str, str], Json], frames: Sequence[bytes]) -> None:
    """What a client does with the events of a watch, strictly: nothing may be added twice or deleted unseen."""
    for frame in frames:
        event = json.loads(frame)
        obj = event["object"]
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta.get("name", ""))
        if event["type"] == "ADDED":
            assert key not in state
            state[key] = obj
        elif event["type"] == "MODIFIED":
            assert key in state
            state[key] = obj
        elif event["type"] == "DELETED":
            assert int(meta["resourceVersion"]) > int(state.pop(key)["metadata"]["resourceVersion"])


@settings(deadline=None)
@given(STEPS)
def test_every_past_state_can_be_listed(steps: list[Step]) -> None:
    store = Store()
    states = {store.version: present(store)}
    for step in steps:
        take_step(store, step)
        states[store.version] = present(store)

    for version, expected in states.items():
        assert present(store, version) == expected


@settings(deadline=None)
@given(STEPS, STEPS, st.booleans())
def test_watch_ends_at_what_a_list_shows(before: list[Step], after: list[Step], selecting: bool) -> None:
    store = Store()
    for step in before:
        take_step(store, step)
    target = parse_path("/api/v1/namespaces/shop/services")
    assert target is not None
    watch = Watch(store, target, {"labelSelector": SELECTOR} if selecting else {})
    state: dict[tuple[str, str], Json] = {}

    replay(state, [frame.data for frame in watch.start()])
    for step in after:
        take_step(store, step)
        replay(state, [frame.data for frame in watch.poll()])

    expected = [
        obj
        for obj in present(store)
        if obj["metadata"]["namespace"] == "shop"
        and not (selecting and obj["metadata"].get("labels", {}).get("tier") == "hidden")
    ]
    assert [state[key] for key in sorted(state)] == expected


def test_history_is_bounded_and_expires_oldest_first() -> None:
    store = Store(history=10)
    first = store.put(make_service("web")).version
    for _ in range(50):
        store.put(make_service("web"))

    with pytest.raises(ExpiredError) as caught:
        store.events_since(SERVICES, first)

    assert first < caught.value.floor <= store.version - 10
    kept = store.events_since(SERVICES, caught.value.floor)
    assert [event.version for event in kept] == list(range(caught.value.floor + 1, store.version + 1))


def test_compaction_forgets_the_past_but_not_the_present() -> None:
    store = Store()
    store.put(make_service("web"))
    before = store.version
    store.put(make_service("web"))

    store.compact()

    assert [obj["metadata"]["name"] for obj in present(store)] == ["web"]
    assert store.events_since(SERVICES, store.version) == []
    with pytest.raises(ExpiredError):
        store.state(SERVICES, before)


def test_one_counter_for_all_kinds() -> None:
    store = Store(first_version=7)

    versions = [store.put(obj).version for obj in (make_service("a"), make_node("n"), make_slice("a"))]

    assert versions == [8, 9, 10]


def test_unknown_fields_and_their_order_are_kept() -> None:
    store = Store()
    service = make_service("web", annotations={"x": "é"}) | {"extra": {"z": 1, "a": [None, True, 1.5]}}
    service["metadata"]["managedFields"] = [{"manager": "me"}]

    stored = store.put(service)

    decoded = stored.decoded()
    assert decoded["extra"] == service["extra"]
    assert list(decoded) == ["kind", "apiVersion", "metadata", "spec", "status", "extra"]
    assert decoded["metadata"] == service["metadata"] | {
        "namespace": "default",
        "uid": stored.uid,
        "creationTimestamp": stored.created,
        "resourceVersion": str(stored.version),
    }


def test_an_object_keeps_its_uid_until_it_is_deleted() -> None:
    store = Store()
    first = store.put(make_service("web"))
    second = store.put(make_service("web", cluster_ip="10.96.0.11"))
    store.delete(SERVICES, "default", "web")
    third = store.put(make_service("web"))

    assert (first.uid, first.created) == (second.uid, second.created)
    assert third.uid != first.uid


def test_replace_all_changes_only_what_differs() -> None:
    store = Store()
    for name in ("keep", "change", "drop"):
        store.put(make_service(name))
    before = store.version

    store.replace_all([make_service("keep"), make_service("change", cluster_ip="10.96.0.99"), make_service("new")])

    changed = {
        (event.old or event.new).key: (event.old is not None, event.new is not None)  # type: ignore[union-attr]
        for event in store.events_since(SERVICES, before)
    }
    assert changed == {
        "/default/drop": (True, False),
        "/default/change": (True, True),
        "/default/new": (False, True),
    }


@pytest.mark.parametrize(
    ("obj", "complaint"),
    [
        ({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}, "no resource for apiVersion 'v1', kind 'Pod'"),
        ({"kind": "Service", "apiVersion": "v1", "metadata": {}}, "Service without metadata.name"),
        ({"kind": "Node", "apiVersion": "v1"}, "Node without metadata.name"),
    ],
)
def test_what_is_no_object_is_refused(obj: Json, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Store().put(obj)


def test_a_version_that_has_passed_is_refused() -> None:
    store = Store(first_version=100)
    with pytest.raises(ValueError, match="version 100 has passed"):
        store.put(make_service("web"), version=100)


def test_new_epoch_keeps_objects_and_starts_low() -> None:
    store = Store(first_version=500)
    uid = store.put(make_service("web")).uid

    store.new_epoch(3)

    assert store.version == 4
    assert [obj["metadata"]["uid"] for obj in present(store)] == [uid]


def test_restored_snapshot_is_independent_of_what_came_after() -> None:
    store = Store()
    store.put(make_service("old"))
    snapshot = store.snapshot()
    expected = present(store)
    store.put(make_service("new"))

    store.restore(snapshot)
    store.put(make_service("other"))
    store.restore(snapshot)

    assert present(store) == expected
    assert store.version == snapshot.version


def test_made_up_cluster_has_distinct_addresses() -> None:
    objects = list(make_cluster(300, 5))

    addresses = [
        *(obj["spec"]["clusterIP"] for obj in objects if obj["kind"] == "Service"),
        *(one["addresses"][0] for obj in objects if obj["kind"] == "EndpointSlice" for one in obj["endpoints"]),
    ]
    assert len(set(addresses)) == len(addresses) == 300 + 1500
    assert msgspec.json.decode(msgspec.json.encode(objects)) == objects
