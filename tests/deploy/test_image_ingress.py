"""The image of kproxy ingress: it serves, with one right, a read-only root file system and a folder of its own."""

import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingress.haproxy.kit import namespace, pods, slices
from tests.kit.deploy.containers import WITHOUT_RIGHTS, Mount, bundle, run
from tests.kit.deploy.image import Image, the_image

pytestmark = [pytest.mark.image, pytest.mark.kernel]

PORT = 80
PATIENCE = 60.0
INGRESS = """
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: kproxy}
spec: {controller: kproxy.dev/ingress}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: default}
spec:
  ingressClassName: kproxy
  rules:
  - host: web.example.org
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with the_image("ingress") as image:
        yield image


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifests")
    folder.chmod(0o755)  # for whoever renders without rights
    (folder / "web.yaml").write_text(slices("web", ["10.1.0.1"]) + INGRESS)
    return folder


def test_it_has_haproxy_and_can_read_certificates(image: Image, root: Path) -> None:
    assert image.inspect()["config"]["Entrypoint"] == ["/usr/local/bin/kproxy", "ingress"]
    program = "import cryptography.x509, kproxy.ingress.daemon.run"
    for command in (["haproxy", "-v"], ["/opt/kproxy/bin/python", "-c", program]):
        done = subprocess.run(["chroot", str(root), *command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command
    assert not (root / "usr/sbin/policy-rc.d").exists()
    assert not (root / "usr/bin/apt-get").exists()


def test_without_any_rights_it_renders(root: Path, manifests: Path, tmp_path: Path) -> None:
    args = ["/usr/local/bin/kproxy", "ingress", "render", "-f", "/manifests/web.yaml"]
    done = run(tmp_path / "bundle", root, args, user=65534, mounts=[Mount(manifests, "/manifests", read_only=True)])
    assert (done.returncode, done.stderr) == (0, "")
    assert "10.1.0.1:8080" in done.stdout


def test_it_serves(root: Path, manifests: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    made = bundle(
        tmp_path / "bundle",
        root,
        args=["/usr/local/bin/kproxy", "ingress", "--manifests", "/manifests", "--https-bind-address", ""],
        env={"PATH": "/usr/sbin:/usr/bin"},
        security={**WITHOUT_RIGHTS, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
        mounts=[Mount(manifests, "/manifests", read_only=True), Mount(state, "/run/kproxy-ingress")],
    )
    with namespace(tmp_path), pods(web="10.1.0.1"), (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["unshare", "--mount", *made.command], stdout=log, stderr=log)
        try:
            assert answer(process) == "web", (tmp_path / "log").read_text()
        finally:
            process.terminate()
            process.wait(PATIENCE)
    assert "Traceback" not in (tmp_path / "log").read_text()


def answer(process: "subprocess.Popen[bytes]") -> str | None:
    """The name of the pod that answers, once one does."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
        try:
            connection.request("GET", "/", headers={"Host": "web.example.org"})
            response = connection.getresponse()
            if response.status == http.client.OK:
                return response.headers["X-Pod"]
        except OSError:
            pass
        finally:
            connection.close()
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
        return None
