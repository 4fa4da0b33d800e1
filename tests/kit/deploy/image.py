"""Builds the image as anybody would, without a container engine or a registry; once, however many tests read it.

buildah builds in a chroot. The base, which elsewhere is pulled, is made by mmdebstrap and kept for a week, and so is
what steps of the Dockerfile gave whose input has not changed. A finished image is named by all that went into it:
whoever finds it there, in this run of the tests or in a later one, takes it as it is.

What the machine needs besides to reach package indexes (certificates of its own) is handed in from outside: the
Dockerfile knows nothing of it.
"""

import datetime
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.kit.apiserver.kinds import Json
from tests.kit.netns import need
from tests.kit.paths import ROOT

SUITE = "trixie"
BASE = "docker.io/library/debian:trixie-slim"
_NAME = "localhost/kproxy-{target}"
_BASE_LASTS = datetime.timedelta(days=7)
_MOST_LEFTOVERS = 30
"""How many images without a name, of steps that others may build on, are kept."""

_BUILD_SECONDS = 1500


@contextmanager
def the_image(target: str = "proxy") -> Iterator["Image"]:
    """The image of this checkout, built if need be. Many may read it at the same time.

    ``target`` is a stage of the Dockerfile that is an image: proxy, or ingress.
    """
    need("buildah", "mmdebstrap", "crun")
    folder = _cache()
    with (folder / "lock").open("w") as lock:
        store = _Store(folder)
        yield _present(store, lock, target)


def _present(store: "_Store", lock: IO[str], target: str) -> "Image":
    """Return the image with the lock held in common; build it with the lock held alone."""
    name = f"{_NAME.format(target=target)}:{_fingerprint()}"
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if store.has(name) and not store.base_is_old():
            return Image(store, name)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not store.has(name) or store.base_is_old():
            store.build(target, name)


def _cache() -> Path:
    """Where the store is: among the machine's caches, or in a folder of our own where that is not to be."""
    for folder in (Path("/var/cache/kproxy-image-tests"), Path(f"/var/tmp/kproxy-image-tests-{os.getuid()}")):  # noqa: S108
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    raise AssertionError("neither /var/cache nor /var/tmp takes the image that the tests build")


def _fingerprint() -> str:
    """Of all that the image is made of: what .dockerignore lets through, and the Dockerfile."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    digest = hashlib.sha256()
    for top in ["Dockerfile", ".dockerignore", *(line[1:] for line in lines if line.startswith("!"))]:
        for path in [ROOT / top] if (ROOT / top).is_file() else sorted((ROOT / top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)} {path.stat().st_mode}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class Image:
    """An image that is there as long as it is in use."""

    def __init__(self, store: "_Store", name: str) -> None:
        self._store = store
        self._name = name

    def inspect(self) -> Json:
        """What the image says of itself: its OCI configuration."""
        described: Json = json.loads(self._store.run("inspect", "--type", "image", self._name))["OCIv1"]
        return described

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """The image's files, in a folder of the caller's own."""
        container = self._store.run("from", "--pull-never", self._name)
        try:
            yield Path(self._store.run("mount", container))
        finally:
            self._store.run("rm", container)


class _Store:
    """Our own store of images."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        driver = "overlay" if _has_overlay(folder) else "vfs"  # which copies everything at each step
        place = folder / driver
        self._command = ["buildah", "--storage-driver", driver]
        self._command += ["--root", str(place / "store"), "--runroot", str(place / "run")]

    def has(self, image: str) -> bool:
        command = [*self._command, "inspect", "--type", "image", image]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def base_is_old(self) -> bool:
        if not self.has(BASE):
            return True
        created = json.loads(self.run("inspect", "--type", "image", BASE))["OCIv1"]["created"]
        moment = datetime.datetime.fromisoformat(created[:19]).replace(tzinfo=datetime.UTC)
        return datetime.datetime.now(datetime.UTC) - moment > _BASE_LASTS

    def build(self, target: str, name: str) -> None:
        """Build a stage of the Dockerfile, with nobody else at work; what is no longer of use goes."""
        self.run("rm", "--all")
        if self.base_is_old():
            self.run("rmi", "--all", "--force")
            self._make_base()
        self._prune(target)
        with _certificates() as mounts:
            self.run(
                *("bud", "--layers", "--isolation", "chroot", "--pull-never", "--timestamp", "0"),
                *(*mounts, "--target", target, "--tag", name, str(ROOT)),
            )

    def _prune(self, target: str) -> None:
        for tag in self.run("images", "--quiet", "--filter", f"reference={_NAME.format(target=target)}").split():
            self.run("rmi", "--force", tag)
        if len(self.run("images", "--quiet", "--filter", "dangling=true").split()) > _MOST_LEFTOVERS:
            self.run("rmi", "--prune")

    def _make_base(self) -> None:
        """As Debian's image is made: the essential packages, without their documentation."""
        archive = self._folder / "base.tar"
        without = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
        options = ["force-unsafe-io", *(f"path-exclude={path}" for path in without)]
        options += ["path-include=/usr/share/doc/*/copyright"]
        _run("mmdebstrap", "--variant=minbase", *(f"--dpkgopt={option}" for option in options), SUITE, str(archive))
        container = self.run("from", "scratch")
        self.run("add", container, str(archive), "/")
        self.run("commit", "--rm", container, BASE)
        archive.unlink()

    def run(self, *arguments: str) -> str:
        return _run(*self._command, *arguments).strip()


def _has_overlay(folder: Path) -> bool:
    """Whether the kernel can lay one folder over another there."""
    with tempfile.TemporaryDirectory(prefix="overlay-", dir=folder) as scratch:
        parts = {name: Path(scratch, name) for name in ("lowerdir", "upperdir", "workdir", "merged")}
        for part in parts.values():
            part.mkdir()
        options = ",".join(f"{name}={part}" for name, part in parts.items() if name != "merged")
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"])]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return False
        subprocess.run(["umount", str(parts["merged"])], check=True)
        return True


def _run(*command: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environ["PATH"] = f"{environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS, env=environ, cwd="/"
    )
    if done.returncode != 0:
        told = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{told}")
    return done.stdout


@contextmanager
def _certificates() -> Iterator[list[str]]:
    """Options for a build by which its pip trusts whom this machine does, where that is not only the usual ones."""
    bundle = os.environ.get("SSL_CERT_FILE")
    if not bundle:
        yield []
        return
    inside = "/root/.config/pip"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(bundle, Path(folder, "ca.pem"))
        Path(folder, "pip.conf").write_text(f"[global]\ncert = {inside}/ca.pem\n")
        yield ["--volume", f"{folder}:{inside}:ro"]
