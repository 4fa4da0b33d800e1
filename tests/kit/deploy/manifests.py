"""Reads what is under deploy/: kustomizations as kustomize renders them, and objects as Kubernetes' own types.

kustomize is no package of Debian's, so the part of it that deploy/ uses is said again here, and anything else is an
error. What kustomize itself made of the sample in tests/deploy/sample is recorded beside it, and a test compares.
"""

import copy
import datetime
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from tests.kit.apiserver.kinds import Json
from tests.kit.paths import DEPLOY as DEPLOY

OVERLAYS = ("kind", "minikube", "kubeadm")

_KNOWN = {
    "apiVersion", "kind", "namespace", "resources", "components", "patches", "images", "configMapGenerator",
}  # fmt: skip


def documents(path: Path) -> list[Json]:
    """The YAML documents of a file."""
    found = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)  # ten times as fast as in Python
    return [document for document in found if document is not None]


def render(folder: Path) -> list[Json]:
    """The objects that ``kubectl kustomize FOLDER`` prints."""
    return _render(folder, [])


def find(objects: list[Json], kind: str, name: str = "kproxy") -> Json:
    """The one object of this kind and name."""
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def _render(folder: Path, objects: list[Json]) -> list[Json]:
    (kustomization,) = documents(folder / "kustomization.yaml")
    unknown = kustomization.keys() - _KNOWN
    assert not unknown, f"{folder}: {unknown}: not in tests/kit/deploy/manifests.py"
    for name in kustomization.get("resources", ()):
        path = folder / name
        objects = objects + (_render(path.resolve(), []) if path.is_dir() else documents(path))
    objects += [_config_map(folder, one) for one in kustomization.get("configMapGenerator", ())]
    for name in kustomization.get("components", ()):
        objects = _render((folder / name).resolve(), objects)
    objects = copy.deepcopy(objects)
    for patch in kustomization.get("patches", ()):
        for step in yaml.load(patch["patch"], Loader=yaml.CSafeLoader):
            _apply(find(objects, **patch["target"]), step)
    for image in kustomization.get("images", ()):
        for holder in _images(objects):
            if holder["image"].partition(":")[0] == image["name"]:
                holder["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    namespace = kustomization.get("namespace")
    assert all(one["metadata"].get("namespace", namespace) == namespace for one in objects if namespace)
    return objects


def _config_map(folder: Path, generator: Json) -> Json:
    assert generator["options"]["disableNameSuffixHash"] is True
    pairs = [entry.partition("=") for entry in generator["files"]]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": generator["name"],
            "namespace": generator["namespace"],
            "labels": generator["options"]["labels"],
        },
        "data": {key: (folder / file).read_text() for key, _, file in pairs},
    }


def _apply(target: Any, step: Json) -> None:
    """One step of a JSON patch, RFC 6902."""
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
    for part in way:
        target = target[int(part) if isinstance(target, list) else part]
    if isinstance(target, list):
        assert (step["op"], last) == ("add", "-")
        target.append(step["value"])
        return
    assert step["op"] in ("add", "replace")
    assert (last in target) is (step["op"] == "replace"), step
    target[last] = step["value"]


def _images(value: Any) -> Iterator[Json]:
    """Everything that names an image."""
    if isinstance(value, Mapping):
        if isinstance(value.get("image"), str):
            yield dict(value) if not isinstance(value, dict) else value
        for one in value.values():
            yield from _images(one)
    elif isinstance(value, list):
        for one in value:
            yield from _images(one)


# Objects as Kubernetes' own types.


def typed(obj: Json) -> Any:
    """The object as the kubernetes package has it; raises where a field is unknown, missing or of another type."""
    group, _, version = obj["apiVersion"].rpartition("/")
    name = {"Event": "EventsV1Event"}.get(obj["kind"], f"{version.capitalize()}{obj['kind']}")
    return _model(name, obj, f"{group}/{obj['kind']}")


def _model(name: str, value: Any, path: str) -> Any:
    container = re.fullmatch(r"(?:List\[|Dict\[str, )(.*)]|list\[(.*)]|dict\(str, (.*)\)", name)
    inner = next((one for one in container.groups() if one), "") if container else ""
    if isinstance(value, list):
        assert name.lower().startswith("list"), f"{path}: a list, and not {name}"
        return [_model(inner, one, f"{path}[{number}]") for number, one in enumerate(value)]
    if container:
        assert isinstance(value, dict), f"{path}: must be {name}"
        return {key: _model(inner, one, f"{path}.{key}") for key, one in value.items()}
    plain: dict[str, Any] = {"str": str, "bool": bool, "int": int, "object": object, "datetime": str}
    if name in plain:
        assert isinstance(value, plain[name]), f"{path}: must be {name}, not {value!r}"
        return datetime.datetime.fromisoformat(value) if name == "datetime" else value
    model = getattr(client, name)
    attributes = {json_name: attribute for attribute, json_name in model.attribute_map.items()}
    assert isinstance(value, dict), f"{path}: must be {name}"
    unknown = value.keys() - attributes.keys()
    assert not unknown, f"{path}: {name} has no {', '.join(unknown)}"
    types = model.openapi_types
    return model(
        **{
            attributes[key]: _model(types[attributes[key]], one, f"{path}.{key}")
            for key, one in value.items()
            if one is not None
        }
    )
