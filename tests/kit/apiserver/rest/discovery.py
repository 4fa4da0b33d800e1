"""What an API server says of itself: its version and which groups and resources it serves.

Held to tests/wire/09-version.txt and to what kubectl and the kubernetes package ask for before their first request.
"""

from tests.kit.apiserver.kinds import GROUP_VERSIONS, Json, Kind, kinds_of_group

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "98b35193b2ac7a23a673325f5e9b830ecd5ba406",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}

VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def discover(path: str) -> Json | None:
    """The document at a discovery path; None for any other path."""
    return _DOCUMENTS.get(path.rstrip("/"))


def _group_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


def _group(group: str) -> Json:
    served = [
        {"groupVersion": _group_version(group, version), "version": version}
        for its_group, version in GROUP_VERSIONS
        if its_group == group
    ]
    return {"name": group, "versions": served, "preferredVersion": served[0]}


def _resources(group: str, version: str) -> Json:
    entries = []
    for kind in kinds_of_group(group, version):
        short_names: Json = {"shortNames": list(kind.short_names)} if kind.short_names else {}
        entries.append(_resource(kind, "", VERBS) | short_names)
        entries.append(_resource(kind, "/status", ["get", "patch", "update"]))
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": _group_version(group, version),
        "resources": entries,
    }


def _resource(kind: Kind, subresource: str, verbs: list[str]) -> Json:
    return {
        "name": f"{kind.plural}{subresource}",
        "singularName": "" if subresource else kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": verbs,
    }


def _documents() -> dict[str, Json]:
    groups = [_group(group) for group in dict.fromkeys(group for group, _ in GROUP_VERSIONS) if group]
    documents: dict[str, Json] = {
        "/version": dict(VERSION),
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for group in groups:
        documents[f"/apis/{group['name']}"] = {"kind": "APIGroup", "apiVersion": "v1", **group}
    for group_name, version in GROUP_VERSIONS:
        prefix = f"/apis/{group_name}" if group_name else "/api"
        documents[f"{prefix}/{version}"] = _resources(group_name, version)
    return documents


_DOCUMENTS = _documents()
