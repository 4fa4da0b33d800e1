"""A folder of manifests as a source of objects, followed for changes: kproxy without an API server.

The folder is looked at a few times a second instead of through inotify: that also works on network file systems and for
mounted ConfigMaps, whose files are symbolic links that are switched all at once, and it costs next to nothing for the
hundreds of files a folder may hold. A file counts as changed only when two looks in a row see the same new state of it:
so a file is not read while it is being written, and one that is gone for a moment, while an editor puts a new one in
its place, is not taken for removed.
"""

import stat
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from kproxy import logs
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.manifests import Combined, Manifest, ManifestError, combine, read_file
from kproxy.api.sink import WholeSink
from kproxy.api.status import WatchStatus
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.faults.containment import contained

SUFFIXES = (".yaml", ".yml", ".json")
LOOK_SECONDS = 0.25

Objects: TypeAlias = Mapping[ObjectKind, Mapping[ObjectKey, ApiObject]]

_log = logs.get("manifests")


class _Signature(NamedTuple):
    """What shows that a file has changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


_NONE = _Signature(0, 0, 0, 0, 0)


class _Loaded(NamedTuple):
    """What is in force of one file, and which state of the file was looked at last; they differ if that was broken."""

    signature: _Signature
    manifest: Manifest
    error: str | None = None


class Folder:
    """What the files of a folder hold, as of the last look."""

    def __init__(self, path: Path, kinds: Iterable[ObjectKind] = Kind) -> None:
        self._path = path
        self._kinds = tuple(kinds)
        self._files: dict[str, _Loaded] = {}
        self._seen: dict[str, _Signature] | None = None
        self._left: dict[str, str] = {}
        """What is left aside although it looks as if it were meant, and why."""

    @property
    def manifests(self) -> dict[str, Manifest]:
        """What is in force, by file name."""
        return {name: file.manifest for name, file in self._files.items()}

    @property
    def errors(self) -> list[str]:
        """One line for each file whose last state cannot be read."""
        return [file.error for _, file in sorted(self._files.items()) if file.error is not None]

    def look(self) -> bool:
        """Take up what has changed; tell whether anything has. Raises `ManifestError` if there is no such folder."""
        seen = self._signatures()
        before = seen if self._seen is None else self._seen  # there is nothing to compare the first look with
        self._seen = seen
        changed = [name for name in seen if seen[name] == before.get(name) and not self._holds(name, seen[name])]
        gone = [name for name in self._files if name not in seen and name not in before]
        for name in changed:
            self._files[name] = self._read(name, seen[name])
        for name in gone:
            _log.info("manifest is gone", file=self._path / name)
            del self._files[name]
        return bool(changed or gone)

    def doubt(self) -> None:
        """Have every file read again at the next look; what is broken keeps what it held."""
        self._files = {name: file._replace(signature=_NONE) for name, file in self._files.items()}

    def _holds(self, name: str, signature: _Signature) -> bool:
        file = self._files.get(name)
        return file is not None and file.signature == signature

    def _signatures(self) -> dict[str, _Signature]:
        try:
            paths = [path for path in self._path.iterdir() if path.name[0] != "."]
        except OSError as error:
            raise ManifestError(str(self._path), None, f"cannot be read: {error.strerror}") from error
        signatures = {}
        left: dict[str, str] = {}
        for path in paths:
            try:
                status = path.stat()
            except OSError:  # gone between the two calls, or a link that leads nowhere
                if path.suffix in SUFFIXES and path.is_symlink():
                    left[path.name] = "a link that leads nowhere"
                continue
            if stat.S_ISREG(status.st_mode) and path.suffix in SUFFIXES:
                signatures[path.name] = _Signature(
                    status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
                )
            elif reason := _why_left(path.name, status.st_mode):
                left[path.name] = reason
        self._tell_left(left)
        return signatures

    def _tell_left(self, left: dict[str, str]) -> None:
        for name, reason in sorted(left.items()):
            if self._left.get(name) != reason:
                _log.warning("left aside among the manifests", file=self._path / name, reason=reason)
        self._left = left

    def _read(self, name: str, signature: _Signature) -> _Loaded:
        path = self._path / name
        try:
            manifest = read_file(path, kinds=self._kinds)
        except ManifestError as error:
            held = self._files[name].manifest if name in self._files else Manifest()
            _log.error(f"{error}; {'what it held last stays' if held.objects else 'nothing of it is'} in force")
            return _Loaded(signature, held, str(error))
        _log.info("manifest read", file=path, objects=len(manifest.objects))
        return _Loaded(signature, manifest)


def _why_left(name: str, mode: int) -> str:
    """Return why something is not read that may be meant to be; nothing for what clearly is something else."""
    if stat.S_ISDIR(mode):
        return "a folder; only files right in the folder of --manifests are read, so move its files there"
    suffix = Path(name).suffix
    if suffix in SUFFIXES:
        return "no file"
    if suffix.lower() in SUFFIXES:
        return f"its name ends in {suffix}; rename it so that it ends in {suffix.lower()}"
    return ""


class ManifestSource:
    """Feeds a sink from a folder of manifests. A `kproxy.api.sink.Source`."""

    def __init__(
        self,
        path: Path,
        sink: WholeSink,
        node_name: str,
        look_seconds: float = LOOK_SECONDS,
        kinds: Iterable[ObjectKind] = Kind,
    ) -> None:
        self._path = path
        self._sink = sink
        self._node_name = node_name
        self._look_seconds = look_seconds
        self._folder = Folder(path, kinds)
        self._combined = Combined({}, ())
        self._statuses = {kind: WatchStatus(kind) for kind in kinds}
        self._stopping = threading.Event()
        self._doubted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="manifests", daemon=True)

    @property
    def statuses(self) -> Sequence[WatchStatus]:
        """One for each kind; they differ only in what they count."""
        return tuple(self._statuses.values())

    def start(self) -> None:
        """Begin to deliver. Raises `ManifestError` if there is no such folder."""
        if not self._path.is_dir():
            raise ManifestError(str(self._path), None, "no such folder; --manifests takes a folder of YAML files")
        self._thread.start()

    def refresh(self) -> None:
        """Read all files again, whether they seem to have changed or not, and hand over what they hold."""
        self._doubted.set()

    def stop(self) -> None:
        """Deliver nothing more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contained("manifests"):
                self._look()
            self._stopping.wait(self._look_seconds)

    def _look(self) -> None:
        if self._doubted.is_set():
            self._doubted.clear()
            self._folder.doubt()
            self._combined = self._combined._replace(objects={})
        try:
            changed = self._folder.look()
        except ManifestError as error:
            self._fail(str(error))
            return
        first = not self._combined.objects
        if first and not self._folder.manifests:
            _log.warning(f"{self._path} holds no files that end in {', '.join(SUFFIXES)}")
        if changed or first:
            self._deliver(combine(self._folder.manifests, self._node_name, self._statuses))
        errors = self._folder.errors
        for status in self._statuses.values():
            status.works()
            status.error = "; ".join(errors) or None

    def _deliver(self, combined: Combined) -> None:
        """Hand all of it over at once: a Service whose file holds its endpoints as well is never without them."""
        with self._sink.together():
            self._hand_over(combined)
        self._combined = combined

    def _hand_over(self, combined: Combined) -> None:
        problems = [problem for problem in combined.problems if problem not in self._combined.problems]
        if problems:
            self._sink.report(problems)
        for kind, objects in combined.objects.items():
            status = self._statuses[kind]
            held = self._combined.objects.get(kind)
            if objects == held:
                continue
            status.lists += 1
            self._sink.replace(kind, objects)
            status.synced = True

    def _fail(self, error: str) -> None:
        if all(status.error != error for status in self._statuses.values()):
            _log.error(f"{error}; what it held last stays in force")
        for status in self._statuses.values():
            status.fails(error)
