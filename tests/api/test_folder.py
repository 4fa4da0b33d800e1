"""A folder of manifests is followed: changes, removals, broken files, and the several ways of writing a file."""

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kproxy.api.folder import Folder, ManifestSource
from kproxy.api.kinds import Kind
from kproxy.api.manifests import ManifestError
from tests.kit.logged import Logged
from tests.kit.sources.recording import RecordingSink
from tests.kit.sources.watching_world import until


def service(name: str, address: str = "10.96.0.1") -> str:
    return f"kind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}}}\n"


def names(folder: Folder) -> set[str]:
    return {obj.metadata.name for manifest in folder.manifests.values() for obj in manifest.objects}


def settle(folder: Folder) -> bool:
    """Look often enough for any change to be taken up."""
    return any([folder.look(), folder.look()])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "web.yaml").write_text(service("web"))
    folder = Folder(tmp_path)
    assert folder.look()
    assert names(folder) == {"web"}
    return folder


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def write_and_rename(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text)
    scratch.rename(path)


def write_as_an_editor(path: Path, text: str) -> None:
    """Do as vim does: the old file becomes the backup, the new one is written anew."""
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)


WAYS = [write_in_place, write_and_rename, write_as_an_editor]


@pytest.mark.parametrize("write", WAYS)
def test_change(folder: Folder, tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    write(tmp_path / "web.yaml", service("shop"))
    assert settle(folder)
    assert names(folder) == {"shop"}
    assert not settle(folder)


def test_added_and_removed_files(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(service("b"))
    (tmp_path / "c.json").write_text('{"kind": "Service", "metadata": {"name": "c"}}')
    assert settle(folder)
    assert names(folder) == {"web", "b", "c"}
    (tmp_path / "web.yaml").unlink()
    assert settle(folder)
    assert names(folder) == {"b", "c"}


def test_file_being_written_is_left_until_it_rests(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    for text in ("", "kind: Serv", service("a")):
        path.write_text(text)
        assert not folder.look()
        assert names(folder) == {"web"}
    assert folder.look()
    assert names(folder) == {"a"}


def test_file_gone_for_a_moment_is_not_removed(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.unlink()
    assert not folder.look()
    path.write_text(service("web"))
    assert names(folder) == {"web"}
    settle(folder)
    assert names(folder) == {"web"}


def test_change_that_keeps_size_and_time_of_change(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    before = path.stat()
    path.write_text(service("bew"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert settle(folder)
    assert names(folder) == {"bew"}


def test_mounted_config_map(tmp_path: Path) -> None:
    """Kubernetes switches all files of a ConfigMap at once, by the link that they all go through."""
    for version, address in (("..1", "10.96.0.1"), ("..2", "10.96.0.2")):
        (tmp_path / version).mkdir()
        for name in ("a", "b"):
            (tmp_path / version / f"{name}.yaml").write_text(service(name, address))
    (tmp_path / "..data").symlink_to("..1")
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    folder = Folder(tmp_path)
    folder.look()
    assert names(folder) == {"a", "b"}
    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    looks = [folder.look(), folder.look()]
    assert looks == [False, True]
    addresses = {getattr(obj, "spec").cluster_ip for m in folder.manifests.values() for obj in m.objects}  # noqa: B009
    assert addresses == {"10.96.0.2"}


def test_files_that_are_none_of_our_business(folder: Folder, tmp_path: Path) -> None:
    for name in (".web.yaml.swp", ".#web.yaml", "web.yaml~", "4913", "README.md", "web.yaml.bak", ".hidden.yaml"):
        (tmp_path / name).write_text("]")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo.yaml")
    assert not settle(folder)


def test_what_looks_as_if_it_were_meant_is_named_once(folder: Folder, tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "shop.YML").write_text(service("shop"))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "deep.yaml").write_text(service("deep"))
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "README.md").write_text("]")
    for _ in range(3):
        folder.look()
    fields = [record.fields for record in logged.records]  # type: ignore[attr-defined]
    assert {field["file"].name: field["reason"] for field in fields} == {
        "dangling.yaml": "a link that leads nowhere",
        "more": "a folder; only files right in the folder of --manifests are read, so move its files there",
        "shop.YML": "its name ends in .YML; rename it so that it ends in .yml",
    }
    assert len(fields) == 3
    assert names(folder) == {"web"}


def test_broken_file_keeps_its_objects(folder: Folder, tmp_path: Path, logged: Logged) -> None:
    path = tmp_path / "web.yaml"
    path.write_text("kind: Service\n  x: [")
    settle(folder)
    assert names(folder) == {"web"}
    (message,) = folder.errors
    assert message.startswith(f"{path}:2: not valid YAML, in column ")
    settle(folder)
    settle(folder)
    assert logged.messages == [f"{message}; what it held last stays in force"]  # once, not at every look
    path.write_text(service("mended"))
    settle(folder)
    assert names(folder) == {"mended"}
    assert folder.errors == []


def test_removing_a_broken_file_removes_its_objects(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("]")
    settle(folder)
    (tmp_path / "web.yaml").unlink()
    settle(folder)
    assert names(folder) == set()
    assert folder.errors == []


def test_missing_folder_keeps_everything(folder: Folder, tmp_path: Path) -> None:
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    with pytest.raises(ManifestError, match="cannot be read: No such file or directory"):
        folder.look()
    assert names(folder) == {"web"}
    tmp_path.with_name("elsewhere").rename(tmp_path)
    assert not settle(folder)


def running(path: Path, sink: RecordingSink) -> ManifestSource:
    source = ManifestSource(path, sink, "n1", look_seconds=0.01)
    source.start()
    return source


def test_what_a_file_holds_is_handed_over_at_once(tmp_path: Path) -> None:
    """Else a Service would be without its endpoints for a moment, and refuse who comes then."""
    sink = RecordingSink()
    (tmp_path / "a.yaml").write_text(service("a") + "---\nkind: Node\nmetadata: {name: n1}\n")
    source = running(tmp_path, sink)
    sink.wait(lambda: set(sink.state) == set(Kind), "all kinds synced")
    source.stop()
    assert sink.apart == []


def test_source_follows(tmp_path: Path) -> None:
    sink = RecordingSink()
    (tmp_path / "a.yaml").write_text(service("a"))
    source = running(tmp_path, sink)
    sink.wait(lambda: set(sink.state) == set(Kind), "all kinds synced")
    assert sink.names(Kind.SERVICE) == {"a"}
    (tmp_path / "b.yaml").write_text(service("b") + "---\nkind: Node\nmetadata: {name: n1}\n")
    sink.wait(lambda: sink.names(Kind.NODE) == {"n1"} and sink.names(Kind.SERVICE) == {"a", "b"})
    assert sink.removed == []
    (tmp_path / "a.yaml").unlink()
    sink.wait(lambda: sink.names(Kind.SERVICE) == {"b"})
    source.stop()
    assert [str(key) for key in sink.removed] == ["default/a"]
    assert all(status.synced and status.error is None and status.age() < 10 for status in source.statuses)


def test_source_reports_each_problem_once(tmp_path: Path) -> None:
    sink = RecordingSink()
    (tmp_path / "a.yaml").write_text(service("a") + "status: 5\n")
    source = running(tmp_path, sink)
    sink.wait(lambda: sink.names(Kind.SERVICE) == {"a"})
    (tmp_path / "b.yaml").write_text(service("b") + "status: 5\n")
    sink.wait(lambda: sink.names(Kind.SERVICE) == {"a", "b"})
    source.stop()
    place = str(tmp_path)
    assert [str(problem) for problem in sink.problems] == [
        f"Service default/{name}: status: expected an object, not 5 ({place}/{name}.yaml:1)" for name in ("a", "b")
    ]


def test_source_says_what_is_broken_and_lives_on(tmp_path: Path) -> None:
    sink = RecordingSink()
    (tmp_path / "a.yaml").write_text("]")
    source = running(tmp_path, sink)
    sink.wait(lambda: set(sink.state) == set(Kind))
    deadline = time.monotonic() + 10
    while source.statuses[0].error is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "a.yaml:1: not valid YAML" in str(source.statuses[0].error)
    assert source.statuses[0].failing_since is None
    (tmp_path / "a.yaml").write_text(service("a"))
    sink.wait(lambda: sink.names(Kind.SERVICE) == {"a"})
    source.stop()


def test_source_outlives_its_folder(tmp_path: Path, logged: Logged) -> None:
    sink = RecordingSink()
    path = tmp_path / "manifests"
    path.mkdir()
    (path / "a.yaml").write_text(service("a"))
    source = running(path, sink)
    sink.wait(lambda: sink.names(Kind.SERVICE) == {"a"})
    path.rename(tmp_path / "away")
    deadline = time.monotonic() + 10
    while source.statuses[0].failing_since is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.statuses[0].failing_since is not None
    source.stop()
    assert sink.names(Kind.SERVICE) == {"a"}
    errors = [record.getMessage() for record in logged.records if record.levelno >= logging.ERROR]
    assert errors == [f"{path}: cannot be read: No such file or directory; what it held last stays in force"]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder; --manifests takes a folder of YAML files"):
        running(tmp_path / "none", RecordingSink())


def test_empty_folder_is_synced_and_warned_about(tmp_path: Path, logged: Logged) -> None:
    sink = RecordingSink()
    source = running(tmp_path, sink)
    sink.wait(lambda: set(sink.state) == set(Kind))
    source.stop()
    assert f"{tmp_path} holds no files that end in .yaml, .yml, .json" in logged.messages


def test_unreadable_file_is_named(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything
    (tmp_path / "web.yaml").chmod(stat.S_IWUSR)
    settle(folder)
    assert folder.errors == [f"{tmp_path}/web.yaml: cannot be read: Permission denied"]
    assert names(folder) == {"web"}


def test_everything_is_read_again_on_request(tmp_path: Path) -> None:
    """Also what does not seem to have changed; what is broken by now keeps what it held."""
    web, broken = tmp_path / "web.yaml", tmp_path / "broken.yaml"
    web.write_text(service("web"))
    broken.write_text(service("kept"))
    sink = RecordingSink()
    source = ManifestSource(tmp_path, sink, "node", look_seconds=0.01)
    source.start()
    try:
        sink.wait(lambda: sink.names(Kind.SERVICE) == {"web", "kept"})
        replaced = sink.replaced
        source.refresh()
        sink.wait(lambda: sink.replaced > replaced, "everything again")
        assert sink.names(Kind.SERVICE) == {"web", "kept"}
        broken.write_text("{")
        until(lambda: "broken.yaml" in str(source.statuses[0].error), "the error")
        replaced = sink.replaced
        source.refresh()
        sink.wait(lambda: sink.replaced > replaced, "everything again")
        assert sink.names(Kind.SERVICE) == {"web", "kept"}
    finally:
        source.stop()
