"""Manifests: the same objects from YAML and JSON files, and one clear line where a file makes no sense."""

import json
from pathlib import Path

import pytest

from kproxy.api.kinds import Kind
from kproxy.api.manifests import Manifest, ManifestError, combine, read_file, read_manifest
from kproxy.api.types import EndpointSlice, Node, ObjectKey, Service, ServicePortSpec
from kproxy.api.yamlreader import MAX_NESTING

WEB = b"""\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  clusterIP: 10.96.0.7
  ports:
  - port: 80
"""
WEB_SLICE = b"""\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: shop
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- addresses: [10.1.0.1]
"""


def only(manifest: Manifest) -> object:
    assert manifest.problems == ()
    (obj,) = manifest.objects
    return obj


def test_service() -> None:
    service = only(read_manifest(WEB, "web.yaml"))
    assert isinstance(service, Service)
    assert service.metadata.key == ObjectKey("default", "web")
    assert service.spec.cluster_ip == "10.96.0.7"
    assert service.spec.ports == (ServicePortSpec(80),)


def test_json_means_the_same() -> None:
    raw: dict[str, object] = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    raw["spec"] = {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}
    data = json.dumps(raw).encode()
    for origin, prefix in (("web.json", b""), ("<stdin>", b""), ("web.yaml", b"\n "), ("web.json", b"\xef\xbb\xbf")):
        assert read_manifest(prefix + data, origin) == read_manifest(WEB, "web.yaml")


def test_several_documents_and_kinds() -> None:
    node = b"apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"
    other = b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: x}\n"
    manifest = read_manifest(b"---\n".join([b"# nothing\n", WEB, WEB_SLICE, other, b"", node]), "all.yaml")
    assert [type(obj) for obj in manifest.objects] == [Service, EndpointSlice, Node]
    assert [str(obj.metadata.key) for obj in manifest.objects] == ["default/web", "shop/web-1", "n1"]
    assert manifest.problems == ()


@pytest.mark.parametrize(
    ("kind", "api_version", "item_type"),
    [("List", "v1", "apiVersion: v1, kind: Service, "), ("ServiceList", "v1", "")],
)
def test_lists(kind: str, api_version: str, item_type: str) -> None:
    data = f"kind: {kind}\napiVersion: {api_version}\nitems:\n- {{{item_type}metadata: {{name: a}}}}\n"
    data += f"- {{{item_type}metadata: {{name: b}}}}\n"
    assert [obj.metadata.name for obj in read_manifest(data.encode(), "x").objects] == ["a", "b"]


@pytest.mark.parametrize("api_version", ["serving.knative.dev/v1", "example.com/v1"])
def test_another_groups_kind_of_the_same_name_is_passed_over(api_version: str) -> None:
    data = f"apiVersion: {api_version}\nkind: Service\nmetadata: {{name: x}}\nspec: 5\n"
    assert read_manifest(data.encode(), "x") == Manifest()


def test_old_version_of_a_known_kind_is_named() -> None:
    data = WEB_SLICE.replace(b"io/v1", b"io/v1beta1")
    assert [str(problem) for problem in read_manifest(data, "x.yaml").problems] == [
        "EndpointSlice shop/web-1: apiVersion: 'discovery.k8s.io/v1beta1' is not supported, use discovery.k8s.io/v1; "
        "the object is left out (x.yaml:1)"
    ]


def test_bad_part_is_left_out_and_named_with_its_file_and_line() -> None:
    manifest = read_manifest(WEB_SLICE + b"---\n" + WEB + b"  - port: http\n  clusterIPs: 10.96.0.7\n", "web.yaml")
    assert [obj.metadata.name for obj in manifest.objects] == ["web-1", "web"]
    assert [str(problem) for problem in manifest.problems] == [
        "Service default/web: spec.clusterIPs: expected a list, not '10.96.0.7' (web.yaml:12)",
        "Service default/web: spec.ports[1].port: expected a whole number, not 'http' (web.yaml:12)",
    ]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2001:10:20:30:40:50:51:52", "2001:10:20:30:40:50:51:52"),  # to YAML 1.1, a number to base 60
        ("2026-01-01", "2026-01-01"),  # a date
        ("10.96.0.7", "10.96.0.7"),
        ("null", None),
        ("~", None),
    ],
)
def test_scalars_are_what_they_are_to_kubernetes(text: str, kept: str | None) -> None:
    service = only(read_manifest(WEB.replace(b"10.96.0.7", text.encode()), "x"))
    assert isinstance(service, Service)
    assert service.spec.cluster_ip == kept


@pytest.mark.parametrize("text", ["080", "0x1F90", "8080", "+8080"])
def test_whole_numbers(text: str) -> None:
    manifest = read_manifest(WEB.replace(b"80", text.encode()), "x")
    assert len(manifest.problems) == (text == "080")  # no octal number


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"kind: Service\nspec:\n\tports: []\n", "f.yaml:3: not valid YAML, in column 1 ("),
        (b"kind: Service\n  name: x\n", "f.yaml:2: not valid YAML, in column 7 ("),
        (b"a: [1\nb: }", "f.yaml:2: not valid YAML, in column "),
        (WEB + b"kind: Node\n", "f.yaml:9: not valid YAML: the key 'kind' is given twice"),
        (b"x: 1\ny: \xff", "f.yaml:2: not valid YAML: not plain text ("),
        (b"x: 1\ny: \x01", "f.yaml:2: not valid YAML: not plain text ("),
        (b"b: x\na: *b", "f.yaml:2: not valid YAML: *b stands for nothing"),
        (
            b"a: !!python/object:os.system x",
            "f.yaml:1: not valid YAML: the tag 'tag:yaml.org,2002:python/object:os.sys",
        ),
        (b"a: !own x", "f.yaml:1: not valid YAML: the tag '!own' is not known"),
        (b"? [a]\n: b", "f.yaml:1: not valid YAML: a key must be a single value"),
        (b"<<: x", "f.yaml:1: not valid YAML, in column 5 ("),
        (b"x: " + b"9" * 5000, f"f.yaml:1: not valid YAML: '{'9' * 80}…' is not a whole number, or too long for one"),
        (b"\nx: !!bool maybe", "f.yaml:2: not valid YAML: 'maybe' is not true or false"),
        (b"x: !!int many", "f.yaml:1: not valid YAML: 'many' is not a whole number"),
        (b"x: !!float many", "f.yaml:1: not valid YAML: 'many' is not a number"),
        (b"x: !!map many", "f.yaml:1: not valid YAML, in column 4 ("),
        (b"--- {}\n---\nhello\n", "f.yaml:1: an object needs a kind, as in 'kind: Service'"),
        (WEB + b"---\nhello\n", "f.yaml:10: expected a Kubernetes object, not 'hello'"),
        (WEB + b"---\n- a\n", "f.yaml:10: expected a Kubernetes object, not a list"),
        (b"kind: List\nitems: [5]", "f.yaml:1: items[0]: expected a Kubernetes object, not 5"),
        (b"kind: List\nitems: [{kind: List}]", "f.yaml:1: items[0]: a List inside a List is not supported"),
        (b"kind: List\nitems: &a [*a]", "f.yaml:1: items[0]: expected a Kubernetes object, not a list"),
    ],
)
def test_yaml_that_makes_no_sense(data: bytes, message: str) -> None:
    with pytest.raises(ManifestError) as error:
        read_manifest(data, "f.yaml")
    assert str(error.value).startswith(message)
    assert str(error.value).isprintable()


def test_a_tab_that_indents_is_named() -> None:
    with pytest.raises(ManifestError, match=r"; YAML is indented with spaces, not with tabs$"):
        read_manifest(b"kind: Service\nspec:\n\tports: []\n", "f.yaml")


DEEP = MAX_NESTING + 1


@pytest.mark.parametrize("levels", [DEEP, 1_200, 50_000], ids=["just", "beyond libyaml", "beyond Python"])
@pytest.mark.parametrize(("opening", "line"), [(b"[", 2), (b"{a: ", 2), (b"- ", 2), (b"? ", 2), (b"[\n", 1 + DEEP)])
def test_what_is_nested_too_deeply(opening: bytes, levels: int, line: int) -> None:
    with pytest.raises(ManifestError) as error:
        read_manifest(b"---\n" + opening * levels, "f.yaml")
    assert str(error.value) == f"f.yaml:{line}: nested too deeply"


@pytest.mark.parametrize("data", [b'{"a": ' + b"[" * 100_000, b'{"a":' * 50_000], ids=["lists", "objects"])
def test_json_that_is_nested_too_deeply(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^f\.json: nested too deeply$"):
        read_manifest(data, "f.json")


def test_what_is_nested_as_deeply_as_may_be_is_read() -> None:
    depth = MAX_NESTING - 1
    manifest = read_manifest(WEB + b"x: " + b"[" * depth + b"]" * depth, "f.yaml")
    assert isinstance(only(manifest), Service)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{\n "kind": "Service",\n "spec": \n}', "f.json:4: not valid JSON, in column 1 ("),
        (b'{"kind": "Service"}\n{', "f.json:2: not valid JSON, in column 1 ("),
        (b"", "f.json:1: not valid JSON, in column 1 ("),
        (b'{"a": "\xff"}', "f.json: not valid JSON ("),
        (b'{"kind": "Service", "x": 1e999}', "f.json: not valid JSON ("),
        (b"[]", "f.json: expected a Kubernetes object, not a list"),
    ],
)
def test_json_that_makes_no_sense(data: bytes, message: str) -> None:
    with pytest.raises(ManifestError) as error:
        read_manifest(data, "f.json")
    assert str(error.value).startswith(message)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"^/.*/web\.yaml: cannot be read: No such file or directory$"):
        read_file(tmp_path / "web.yaml")
    with pytest.raises(ManifestError, match=r"cannot be read: Is a directory$"):
        read_file(tmp_path)


def test_combining_takes_what_concerns_the_node() -> None:
    texts = {
        "kept": "kind: Service\nmetadata: {name: kept}\n",
        "headless": "kind: Service\nmetadata: {name: headless}\nspec: {clusterIP: None}\n",
        "foreign": "kind: Service\nmetadata: {name: foreign, labels: {service.kubernetes.io/service-proxy-name: ''}}\n",
        "headless-slice": "kind: EndpointSlice\nmetadata: {name: x, labels: {service.kubernetes.io/headless: ''}}\n",
        "n1": "kind: Node\nmetadata: {name: n1}\n",
        "n2": "kind: Node\nmetadata: {name: n2}\n",
    }
    manifests = {name: read_manifest(text.encode(), name) for name, text in texts.items()}
    objects, problems = combine(manifests, "n1")
    assert {kind: {key.name for key in found} for kind, found in objects.items()} == {
        Kind.SERVICE: {"kept"},
        Kind.ENDPOINT_SLICE: set(),
        Kind.NODE: {"n1"},
        Kind.SERVICE_CIDR: set(),
    }
    assert problems == ()
    assert {key.name for key in combine(manifests, None).objects[Kind.NODE]} == {"n1", "n2"}


def test_first_file_by_name_wins() -> None:
    first, second = WEB, WEB.replace(b"10.96.0.7", b"10.96.0.8")
    manifests = {
        "b.yaml": read_manifest(second, "b.yaml"),
        "a.yaml": read_manifest(first + b"---\n" + second, "a.yaml"),
    }
    objects, problems = combine(manifests, "n1")
    assert objects[Kind.SERVICE] == {ObjectKey("default", "web"): only(read_manifest(first, ""))}
    assert [str(problem) for problem in problems] == [
        "Service default/web: metadata.name: twice in a.yaml; the first one is used",
        "Service default/web: metadata.name: in a.yaml and b.yaml; a.yaml's is used",
    ]


ENDPOINTS = b"apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets: []\n"


def test_endpoints_are_named_as_what_they_are_not() -> None:
    manifest = read_manifest(ENDPOINTS, "web.yaml")
    assert manifest.objects == ()
    (problem,) = combine({"web.yaml": manifest}, None).problems
    assert str(problem).startswith("Endpoints default/web: kind: kproxy reads EndpointSlices (discovery.k8s.io/v1)")


def test_endpoints_beside_their_slices_are_passed_over() -> None:
    owner = b"metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}"
    piece = b"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" + owner + b"\naddressType: IPv4\n"
    assert combine({"web.yaml": read_manifest(ENDPOINTS + piece, "web.yaml")}, None).problems == ()
