"""One way to write to disk: a folder or a file is there whole, durable and checksummed, or it is not there.

A kill, a full disk or a power cut at any moment leaves what was there before or what was to come, never a mixture:
fill `.tmp-<name>`, fsync the files, write the manifest, fsync it and the folder, rename, fsync the parent. There is one
writer for a folder at a time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from vfmerge.errors import CheckpointError, InputError, RunError, one_line

MANIFEST = "MANIFEST.json"
SCHEMA = 1

Entries = Mapping[str, tuple[int, str]]
"""Name below the folder: size in bytes, sha256."""

_passed: Counter[str] = Counter()


def fault(point: str) -> None:
    """Die here if VFMERGE_FAULT=<point>:<n> asks for it and this is the n-th passage: recovery is tested by it."""
    _passed[point] += 1
    if os.environ.get("VFMERGE_FAULT") == f"{point}:{_passed[point]}":
        os.kill(os.getpid(), signal.SIGKILL)


def commit(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder whole: `write` fills the empty folder it is given, which then takes the place of `folder`.

    A folder of that name is replaced if vfmerge wrote it (it has a manifest) or it is empty: `InputError` otherwise.
    Whatever `write` raises, `folder` is as it was; an `OSError` (a full disk) is raised as `RunError`.
    """
    folder = folder.resolve()  # through a link, not in its place
    recover(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and not _empty(folder):
        raise InputError(one_line(f"{folder}: not written by vfmerge, so not replaced; choose another path or move it"))
    try:
        _fill(_beside("tmp", folder), write)
        _swap(_beside("tmp", folder), folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            recover(folder)
        if isinstance(error, OSError):
            raise _unwritten(folder, error) from error
        raise


def add(folder: Path, write: Callable[[Path], object]) -> None:
    """As `commit`, into a folder whose other files stay, whoever wrote them: they are not in the manifest.

    A kill half-way may leave files of both, but no manifest that would vouch for them.
    """
    folder = folder.resolve()
    new = _beside("new", folder)
    try:
        commit(new, write)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        for name in sorted(_files(new), key=lambda name: name == MANIFEST):  # the manifest at last
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, folder / name)
        sync(folder)
    except OSError as error:
        raise _unwritten(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def recover(folder: Path) -> None:
    """Undo the commit of `folder` that a kill broke off: a folder not yet replaced comes back, left-overs go.

    Called by whoever may write there; the left-overs of a living process would be taken from it.
    """
    old = _beside("old", folder)
    if old.exists() and not folder.exists():  # killed between the two renames
        os.rename(old, folder)
        sync(folder.parent)
    for left in (_beside("tmp", folder), old):
        if left.exists():
            shutil.rmtree(left)


def remove(folder: Path) -> None:
    """Delete a folder so that a kill half-way leaves no half of it under its name; `recover` takes the rest away."""
    recover(folder)
    try:
        os.rename(folder, _beside("tmp", folder))
        shutil.rmtree(_beside("tmp", folder))
    except OSError as error:
        raise _unwritten(folder, error) from error


def verify(folder: Path, *, only: Collection[str] | None = None) -> None:
    """Raise a `CheckpointError` that names the first file of a committed folder that is missing, extra or differs.

    only: the files that are looked at, where not all matter; then they may be links, which a hub's cache is made of.
    `InputError` for a folder of a newer vfmerge.
    """
    expected = _read_manifest(folder)
    if only is None:
        found = {name: path for name, path in _files(folder).items() if name != MANIFEST}
    else:
        expected = {name: entry for name, entry in expected.items() if name in only}
        found = {name: (folder / name).resolve() for name in only if (folder / name).exists()}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise _damaged(folder, f"{name} is missing")
        if name not in expected:
            raise _damaged(folder, f"{name} is not in {MANIFEST}")
        if not _matches(found[name], expected[name]):
            raise _damaged(folder, f"{name} differs from {MANIFEST}")


def entries(folder: Path) -> Entries:
    """What the manifest of a committed folder says. Raises as `verify` does, which looks whether it is so."""
    return _read_manifest(folder)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write one file by the same rules, without a manifest: `write` makes the file whose path it is given."""
    path = path.resolve()
    temporary = _beside("tmp", path)
    recover(path)
    try:
        temporary.mkdir(parents=True)
        write(temporary / path.name)
        _settle(temporary)
        os.replace(temporary / path.name, path)
        sync(path.parent)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write one UTF-8 file: whoever reads it sees all of the old text or all of the new."""
    write_file(path, lambda temporary: temporary.write_bytes(text.encode()))


def amend(folder: Path, texts: Mapping[str, bytes]) -> None:
    """Write small files of a committed folder anew, each as `write_file` does, and then what the manifest says of them.

    A kill in between leaves a manifest that vouches for all files but these.
    """
    known = dict(_read_manifest(folder))
    for name, text in texts.items():
        write_file(folder / name, functools.partial(_put, content=text))
        known[name] = len(text), hashlib.sha256(text).hexdigest()
    write_file(folder / MANIFEST, lambda path: path.write_bytes(_render(known, schema=SCHEMA)))


def _put(path: Path, *, content: bytes) -> None:
    path.write_bytes(content)


def sync(path: Path) -> None:
    """Bring what was written to a file, or which files a folder has, to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal; read in pieces, whatever its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fill(temporary: Path, write: Callable[[Path], object]) -> None:
    temporary.mkdir(parents=True)
    fault("begin")
    write(temporary)
    fault("written")
    _settle(temporary)
    manifest = temporary / MANIFEST
    manifest.unlink(missing_ok=True)  # of a folder that was whole already: this one is of all that is there
    entries = {name: (path.stat().st_size, digest(path)) for name, path in _files(temporary).items()}
    manifest.write_bytes(_render(entries, schema=SCHEMA))
    fault("manifest")
    sync(manifest)
    for where, _, _ in os.walk(temporary, topdown=False):
        sync(Path(where))
    fault("synced")


def _swap(temporary: Path, folder: Path) -> None:
    old = _beside("old", folder)
    if folder.exists():
        os.rename(folder, old)
    fault("aside")
    os.rename(temporary, folder)
    fault("renamed")
    sync(folder.parent)
    if old.exists():
        shutil.rmtree(old)
    fault("pruned")


def _settle(temporary: Path) -> None:
    """Give every file the mode the umask allows (safetensors makes them private) and bring its bytes to the disk."""
    mode = temporary.stat().st_mode & 0o666  # the folder was made under the umask; asking for it is not thread-safe
    for path in _files(temporary).values():
        path.chmod(mode)
        sync(path)


def _beside(kind: str, folder: Path) -> Path:
    return folder.with_name(f".{kind}-{folder.name}")


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _files(folder: Path) -> dict[str, Path]:
    """Everything below the folder that is not a folder, links to folders included, by its name with `/`."""
    found = []
    for where, folders, names in os.walk(folder):
        found += [Path(where, name) for name in names]
        found += [Path(where, name) for name in folders if Path(where, name).is_symlink()]
    return {path.relative_to(folder).as_posix(): path for path in found}


def _matches(path: Path, entry: tuple[int, str]) -> bool:
    if path.is_symlink() or not path.is_file():  # the manifest speaks of plain files; a pipe would never end
        return False
    try:
        return path.stat().st_size == entry[0] and digest(path) == entry[1]
    except OSError:
        return False


def _render(entries: Entries, *, schema: int) -> bytes:
    """The manifest's bytes. It ends with its own checksum, so that a flipped bit in a schema is not a newer schema."""
    files = {name: {"size": size, "sha256": sha256} for name, (size, sha256) in sorted(entries.items())}
    content = {"schema": schema, "files": files}
    check = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content | {"sha256": check}, indent=1).encode() + b"\n"


def _read_manifest(folder: Path) -> Entries:
    try:
        raw = (folder / MANIFEST).read_bytes()
        content = json.loads(raw)
        schema = int(content["schema"])
        entries = {str(name): (int(e["size"]), str(e["sha256"])) for name, e in content["files"].items()}
        whole = raw == _render(entries, schema=schema)
    except FileNotFoundError:
        raise _damaged(folder, f"{MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise _damaged(folder, f"{MANIFEST} is damaged")
    if schema > SCHEMA:
        raise InputError(one_line(f"{folder}: made by a newer vfmerge (schema {schema} > {SCHEMA}); upgrade vfmerge"))
    return entries


def _damaged(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(one_line(f"{folder}: {what}; the folder is not as it was written, take it from its source"))


def _unwritten(path: Path, error: OSError) -> RunError:
    reason = error.strerror or error
    return RunError(one_line(f"{path}: cannot be written: {reason}; make room or mend the path, then run again"))
