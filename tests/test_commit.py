"""One commit protocol: whole, durable, checksummed, or not there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vfmerge import commit, random
from vfmerge.errors import CheckpointError, InputError, RunError, one_line

POINTS = ["begin", "written", "manifest", "synced", "aside", "renamed", "pruned"]
WRITER = """
import os, pathlib, signal, sys
from vfmerge import commit
folder, text = pathlib.Path(sys.argv[1]), sys.argv[2]
def write(temporary):
    (temporary / "deep").mkdir()
    (temporary / "a.bin").write_bytes(text.encode() * 1000)
    if os.environ.get("DIE_HALF_WRITTEN"):
        os.kill(os.getpid(), signal.SIGKILL)
    (temporary / "deep" / "b.txt").write_text(text)
commit.commit(folder, write)
"""


def two_files(text: str) -> Callable[[Path], None]:
    """A writer of two files, one of them deeper."""

    def write(temporary: Path) -> None:
        (temporary / "deep").mkdir()
        (temporary / "a.bin").write_bytes(text.encode() * 1000)
        (temporary / "deep" / "b.txt").write_text(text)

    return write


def in_a_process(folder: Path, text: str, **environment: str) -> int:
    """Commit `two_files` in a process of its own; returns its exit status."""
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", WRITER, str(folder), text], env=environment, check=False).returncode


def content(folder: Path) -> str:
    """What was committed, after checking that it is whole."""
    commit.verify(folder)
    return (folder / "deep" / "b.txt").read_text()


def test_a_committed_folder_is_whole_and_alone(tmp_path: Path) -> None:
    """The folder verifies, and nothing is left beside it."""
    commit.commit(tmp_path / "new" / "model", two_files("x"))
    assert content(tmp_path / "new" / "model") == "x"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]


def test_a_commit_replaces_the_folder(tmp_path: Path) -> None:
    """A second commit leaves only its own files."""
    commit.commit(tmp_path / "model", two_files("old"))
    commit.commit(tmp_path / "model", lambda temporary: (temporary / "c").write_text("new"))
    commit.verify(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [commit.MANIFEST, "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_commit_follows_a_link(tmp_path: Path) -> None:
    """A link to a folder stays a link, and what it points to is replaced."""
    commit.commit(tmp_path / "model", two_files("old"))
    (tmp_path / "link").symlink_to("model")
    commit.commit(tmp_path / "link", two_files("new"))
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "model") == "new"


def test_files_of_others_are_never_replaced(tmp_path: Path) -> None:
    """A folder without a manifest holds somebody's files: refused, untouched."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis: not written by vfmerge"):
        commit.commit(tmp_path / "thesis", two_files("x"))
    assert (tmp_path / "thesis" / "chapter").read_text() == "years of work"


@pytest.mark.parametrize("error", [KeyError("bug"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_folder(tmp_path: Path, error: BaseException) -> None:
    """The error goes on; the folder is as it was, without left-overs."""
    commit.commit(tmp_path / "model", two_files("old"))

    def write(temporary: Path) -> None:
        (temporary / "half").write_text("half")
        raise error

    with pytest.raises(type(error)):
        commit.commit(tmp_path / "model", write)
    assert content(tmp_path / "model") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """An OSError becomes a RunError with the path and the system's reason."""

    def write(temporary: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"model: cannot be written: No space left on device; make room"):
        commit.commit(tmp_path / "model", write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("point", [*POINTS, "half"])
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, point: str, replaced: bool) -> None:
    """SIGKILL at every boundary: after recovery the old folder or the new one is there whole, and nothing else."""
    folder = tmp_path / "model"
    if replaced:
        commit.commit(folder, two_files("old"))
    environment = {"DIE_HALF_WRITTEN": "1"} if point == "half" else {"VFMERGE_FAULT": f"{point}:1"}
    assert in_a_process(folder, "new", **environment) == -signal.SIGKILL
    commit.recover(folder)
    done = point in {"renamed", "pruned"}
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if done or replaced else [])
    if done or replaced:
        assert content(folder) == ("new" if done else "old")
    assert in_a_process(folder, "again") == 0
    assert content(folder) == "again"


def test_the_fault_strikes_once_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """`<point>:2` lets the first passage through, kills at the second, and no other point."""
    kills: list[tuple[int, int]] = []
    counts: list[int] = []
    monkeypatch.setenv("VFMERGE_FAULT", "counted:2")
    monkeypatch.setattr(os, "kill", lambda *call: kills.append(call))
    for _ in range(3):
        commit.fault("another")
        commit.fault("counted")
        counts.append(len(kills))
    assert kills == [(os.getpid(), signal.SIGKILL)]
    assert counts == [0, 1, 1]


def test_what_is_renamed_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, manifest and folders are fsynced before the rename, the parent after it; only then the old one is dropped.

    A kill cannot show this, for the system keeps the pages: so the order of the calls is recorded.
    """
    folder = tmp_path / "model"
    commit.commit(folder, two_files("old"))
    calls: list[str] = []
    fsync, rename, rmtree = os.fsync, os.rename, shutil.rmtree

    def named(path: str | Path) -> str:
        return str(Path(path).relative_to(tmp_path))

    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append("sync " + named(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))
    )
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append(f"rename {named(a)} {named(b)}"), rename(a, b)))
    monkeypatch.setattr(shutil, "rmtree", lambda p, **k: (calls.append(f"drop {named(p)}"), rmtree(p, **k)))
    commit.commit(folder, two_files("new"))
    assert sorted(calls[:2]) == ["sync .tmp-model/a.bin", "sync .tmp-model/deep/b.txt"]
    assert calls[2:] == [
        "sync .tmp-model/MANIFEST.json",
        "sync .tmp-model/deep",
        "sync .tmp-model",
        "rename model .old-model",
        "rename .tmp-model model",
        "sync .",
        "drop .old-model",
    ]


def test_a_single_file_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`write_text`: fsync of the file, replace, fsync of the parent."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    commit.write_text(tmp_path / "status.json", "{}\n")
    assert calls == ["status.json", "replace", tmp_path.name]
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_text_is_replaced_whole_or_not(tmp_path: Path) -> None:
    """A full disk leaves the old text and no left-overs."""
    path = tmp_path / "status.json"
    commit.write_text(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(RunError, match=r"status\.json: cannot be written: File too large"):
            commit.write_text(path, "é" * (1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]
    commit.write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    """Also those whose writer made them private."""

    def write(temporary: Path) -> None:
        (temporary / "private").touch(mode=0o600)

    before = os.umask(mask)
    try:
        commit.commit(tmp_path / "model", write)
        commit.write_text(tmp_path / "text", "x")
    finally:
        os.umask(before)
    paths = [tmp_path / "model" / "private", tmp_path / "model" / commit.MANIFEST, tmp_path / "text"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [mode] * 3


def corrupt(folder: Path, seed: int) -> None:
    """Damage a folder in one of five ways."""
    draw = random.generator("corrupt", seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[int(draw.integers(len(files)))]
    data = bytearray(path.read_bytes())
    at = int(draw.integers(len(data)))
    match seed % 5:
        case 0:
            path.write_bytes(data[:at])
        case 1:
            data[at] ^= 1 << int(draw.integers(8))
            path.write_bytes(data)
        case 2:
            path.write_bytes(data[:at] + bytes(len(data) - at))
        case 3:
            path.unlink()
        case 4:
            (path.parent / f"extra{at}").write_bytes(b"")


def test_every_corruption_is_found(tmp_path: Path) -> None:
    """300 of 300: cut, flipped bit, zero tail, missing file, extra file; the manifest itself among them."""
    commit.commit(tmp_path / "good", two_files("text"))
    for seed in range(300):
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        corrupt(tmp_path / "bad", seed)
        with pytest.raises(CheckpointError) as caught:
            commit.verify(tmp_path / "bad")
        assert str(caught.value).startswith(str(tmp_path / "bad")), seed
        assert len(str(caught.value)) <= 300
        shutil.rmtree(tmp_path / "bad")
    commit.verify(tmp_path / "good")


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    """All of them, so that a damaged schema is not taken for a newer vfmerge."""
    commit.commit(tmp_path / "model", lambda temporary: (temporary / "a").write_text("a"))
    path = tmp_path / "model" / commit.MANIFEST
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(CheckpointError):
            commit.verify(tmp_path / "model")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "a.bin").unlink(), r"a\.bin is missing"),
        (lambda folder: (folder / "deep" / "c").touch(), r"deep/c is not in MANIFEST\.json"),
        (lambda folder: (folder / "a.bin").write_text(""), r"a\.bin differs from"),
        (lambda folder: (folder / commit.MANIFEST).unlink(), r"MANIFEST\.json is missing"),
        (lambda folder: (folder / commit.MANIFEST).write_text("[" * 9999), r"MANIFEST\.json is damaged"),
        (
            lambda folder: (folder / commit.MANIFEST).write_text('{"schema": 1, "files": []}'),
            r"MANIFEST\.json is damaged",
        ),
        (lambda folder: (folder / "deep" / "link").symlink_to("/"), r"deep/link is not in"),
    ],
)
def test_the_first_fault_is_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    """By the file's name below the folder."""
    commit.commit(tmp_path / "model", two_files("x"))
    damage(tmp_path / "model")
    with pytest.raises(CheckpointError, match=message):
        commit.verify(tmp_path / "model")


def test_a_link_or_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    """A link to the same bytes differs, for it may change; a pipe is not waited for."""
    commit.commit(tmp_path / "model", two_files("x"))
    path = tmp_path / "model" / "a.bin"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"a\.bin differs"):
        commit.verify(tmp_path / "model")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match=r"a\.bin differs"):
        commit.verify(tmp_path / "model")


def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no damage, and the message says what to do."""
    monkeypatch.setattr(commit, "SCHEMA", 7)
    commit.commit(tmp_path / "model", two_files("x"))
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"made by a newer vfmerge \(schema 7 > 1\); upgrade") as caught:
        commit.verify(tmp_path / "model")
    assert not isinstance(caught.value, CheckpointError)


def test_digest_of_a_known_file(tmp_path: Path) -> None:
    """The sha256 of `abc`, from the standard (FIPS 180-4)."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert commit.digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_one_line_is_one_printable_line() -> None:
    """Line breaks, escapes and broken encodings do not get through; beginning and end are kept."""
    line = one_line("model\n\x1b[31m\u202e\udcff " + "x" * 999 + "; remedy")
    assert line.isprintable()
    assert len(line) <= 300
    assert line.startswith("model [31m")
    assert line.endswith("; remedy")
