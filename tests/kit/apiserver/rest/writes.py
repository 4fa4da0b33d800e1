"""Create, update, patch and delete over HTTP, so that kubectl and the kubernetes package can change things.

Each is one step under the store's lock. As in a real server, an update that changes nothing makes no new version, and
one made from an old version is a conflict.
"""

import uuid
from collections.abc import Mapping

import msgspec

from tests.kit.apiserver.kinds import Json, Kind, Target
from tests.kit.apiserver.rest.defaults import default_service
from tests.kit.apiserver.rest.patches import apply_patch
from tests.kit.apiserver.rest.status import ApiError, conflict, not_found
from tests.kit.apiserver.rest.store import Store, Stored


def decode_object(body: bytes) -> Json:
    """Read an object out of a request.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        return msgspec.json.decode(body, type=dict)
    except msgspec.MsgspecError as error:
        raise ApiError(400, f"the object provided is unrecognized: {error}") from error


def create(store: Store, target: Target, obj: Json) -> Stored:
    """Answer a POST."""
    obj = _complete(target, obj)
    meta = obj["metadata"]
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
    if not meta.get("name"):
        raise ApiError(422, f'{target.kind.name} "" is invalid: metadata.name: Required value: name is required')
    if meta.get("resourceVersion"):
        raise ApiError(400, "resourceVersion should not be set on objects to be created")
    with store.lock:
        if store.get(target.kind, target.namespace, meta["name"]) is not None:
            raise conflict(target.kind, meta["name"], "already exists", reason="AlreadyExists")
        return store.put(_defaulted(store, target.kind, obj, None))


def update(store: Store, target: Target, obj: Json) -> Stored:
    """Answer a PUT, of the whole object or of its status."""
    with store.lock:
        old = fetch(store, target)
        return _replace(store, target, old, _complete(target, obj))


def patch(store: Store, target: Target, content_type: str, body: bytes) -> Stored:
    """Answer a PATCH, of the whole object or of its status."""
    with store.lock:
        old = fetch(store, target)
        return _replace(store, target, old, apply_patch(content_type, old.decoded(), body))


def delete(store: Store, target: Target) -> Json:
    """Answer a DELETE: with the object for a Service, for the other kinds with a Status, as their registries do."""
    with store.lock:
        old = fetch(store, target)
        store.delete(target.kind, target.namespace, target.name)
    if target.kind.delete_returns_object:
        return old.decoded()
    details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural, "uid": old.uid}
    if not target.kind.group:
        del details["group"]
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def fetch(store: Store, target: Target) -> Stored:
    """Return the object that a path names.

    Raises:
        ApiError: 404.
    """
    stored = store.get(target.kind, target.namespace, target.name)
    if stored is None:
        raise not_found(target.kind, target.name)
    return stored


def _replace(store: Store, target: Target, old: Stored, new: Json) -> Stored:
    before = old.decoded()
    meta: Mapping[str, str] = new["metadata"]
    if meta.get("name") != target.name:
        raise ApiError(400, f"the object's name {meta.get('name')!r} does not match {target.name!r} of the URL")
    if meta.get("resourceVersion") not in (None, "", str(old.version)):
        raise conflict(
            target.kind, target.name, "is not as it was: the object has been modified; please apply your changes anew"
        )
    if target.subresource == "status":
        new = {**before, "status": new.get("status", {})}
    else:
        new = _defaulted(store, target.kind, new, before)
    own = {"resourceVersion": str(old.version), "uid": old.uid, "creationTimestamp": old.created}
    new["metadata"] = {**new["metadata"], **own}
    return old if new == before else store.put(new)


def _complete(target: Target, obj: Json) -> Json:
    """An object as its path says it is; what it says of itself must not contradict that."""
    kind = target.kind
    for name, value in (("kind", kind.name), ("apiVersion", kind.api_version)):
        if obj.get(name, value) != value:
            raise ApiError(400, f"{name} {obj[name]!r} in the body does not match {value!r} of the URL")
    meta = dict(obj.get("metadata") or {})
    if kind.namespaced:
        if meta.get("namespace") not in (None, "", target.namespace):
            raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")
        meta["namespace"] = target.namespace
    return {**obj, "kind": kind.name, "apiVersion": kind.api_version, "metadata": meta}


def _defaulted(store: Store, kind: Kind, obj: Json, old: Json | None) -> Json:
    if kind.name != "Service":
        return obj
    return default_service(obj, old, (stored.decoded() for stored in store.state(kind)))
