"""The three kinds of patch that kubectl and the kubernetes package send.

JSON merge patch (RFC 7396), JSON patch (RFC 6902: add, replace, remove, test), and Kubernetes' strategic merge patch as
far as the kinds served here need it: lists merged by key, ``$patch: delete`` and ``$patch: replace``,
``$deleteFromPrimitiveList``. Its ``$setElementOrder`` and ``$retainKeys`` are read over: order carries no meaning here.
"""

from typing import Any

import msgspec

from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.rest.status import ApiError

# The merge keys of k8s.io/api's structs, by the field's name; lists not named here are replaced whole.
_MERGE_KEYS = {
    "ports": "port",
    "conditions": "type",
    "addresses": "type",
    "taints": "key",
    "ownerReferences": "uid",
}
_MERGED_PRIMITIVES = {"finalizers", "podCIDRs"}


def apply_patch(content_type: str, obj: Json, patch: bytes) -> Json:
    """Return the patched object; the original stays as it is.

    Raises:
        ApiError: 415 for another kind of patch, 400 for one that can't be read, 422 for one that doesn't fit.
    """
    try:
        decoded = msgspec.json.decode(patch)
    except msgspec.DecodeError as error:
        raise ApiError(400, f"the patch is not JSON: {error}") from error
    if content_type == "application/json-patch+json":
        return _json_patch(obj, decoded)
    if not isinstance(decoded, dict):
        raise ApiError(400, "the patch is not an object")
    if content_type == "application/merge-patch+json":
        merged: Json = _merge(obj, decoded)
        return merged
    if content_type == "application/strategic-merge-patch+json":
        return _strategic(obj, decoded)
    raise ApiError(415, f"the body of the request was in an unknown format: {content_type!r}")


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _strategic(target: Any, patch: Json) -> Json:
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            result[field] = [one for one in result.get(field) or [] if one not in value]
        elif name.startswith("$"):
            continue
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = _strategic_value(name, result.get(name), value)
    return result


def _strategic_value(name: str, old: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return _strategic(old, value)
    if isinstance(value, list) and isinstance(old, list):
        if name in _MERGED_PRIMITIVES:
            return [*old, *(one for one in value if one not in old)]
        key = _MERGE_KEYS.get(name)
        if key is not None and all(isinstance(one, dict) for one in (*old, *value)):
            return _merge_list(key, old, value)
    return _without_directives(value)


def _merge_list(key: str, old: list[Json], patch: list[Json]) -> list[Json]:
    if {"$patch": "replace"} in patch:
        return [one for one in patch if "$patch" not in one]
    result = list(old)
    for entry in patch:
        position = next((at for at, one in enumerate(result) if one.get(key) == entry.get(key)), None)
        if entry.get("$patch") == "delete":
            if position is not None:
                del result[position]
        elif position is None:
            result.append(entry)
        else:
            result[position] = _strategic(result[position], entry)
    return result


def _without_directives(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_directives(one) for one in value if not (isinstance(one, dict) and one.keys() == {"$patch"})]
    return value


def _json_patch(obj: Json, operations: Any) -> Json:
    if not isinstance(operations, list):
        raise ApiError(400, "a JSON patch is a list of operations")
    result: Json = msgspec.json.decode(msgspec.json.encode(obj))
    for operation in operations:
        try:
            _json_patch_step(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(422, f"the server rejected our request due to an error in our request: {error}") from error
    return result


def _json_patch_step(root: Json, operation: Json) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    container: Any = root
    for part in parents:
        container = container[int(part)] if isinstance(container, list) else container[part]
    at: Any = last
    if isinstance(container, list):
        at = len(container) if last == "-" else int(last)
    name = operation["op"]
    if name == "add" and isinstance(container, list):
        container.insert(at, operation["value"])
    elif name == "add":
        container[at] = operation["value"]
    elif name == "remove":
        del container[at]
    elif name in ("replace", "test"):
        if name == "test" and container[at] != operation["value"]:
            raise ValueError(f"testing value {operation['path']} failed")
        container[at] = operation["value"]
    else:
        raise ValueError(f"unsupported operation {name!r}")
