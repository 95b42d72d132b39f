"""Paths and names from options and data sets: found, listed, read, and made safe to print."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from vfmerge.errors import BadSample, InputError

MAX_BYTES = 512 << 20  # a file or tar member larger than this is no picture; BMP of 100 megapixels has 300 MB
_PROBED = 100  # files looked for at opening, to notice a wrong folder

Item = TypeVar("Item")


def printable(name: str) -> str:
    """The name on one line: control characters, marks that reorder text and bytes that are no text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def shown(name: str | Path) -> str:
    """The name as an error shows it: printable, and no longer than 120 characters, of which the end says most."""
    text = printable(str(name))
    return text if len(text) <= 120 else "..." + text[-117:]


def existing(path: str, *, option: str) -> Path:
    """The file or folder that an option names, with `~` expanded. Raises InputError if there is none."""
    expanded = os.path.expanduser(path)
    if not path or not os.path.exists(expanded):
        raise InputError(f"{option}: {shown(expanded)!r} does not exist; give the path of a file or folder")
    return Path(expanded)


def folder(path: str, *, option: str) -> Path:
    """As `existing`, and it is a folder."""
    found = existing(path, option=option)
    if not found.is_dir():
        raise InputError(f"{option}: {shown(found)!r} is not a folder; give the path of a folder")
    return found


def file(path: str, *, option: str) -> Path:
    """As `existing`, and it is a file."""
    found = existing(path, option=option)
    if not found.is_file():
        raise InputError(f"{option}: {shown(found)!r} is not a file; give the path of a file")
    return found


def below(root: Path, name: str, *, option: str) -> Path:
    """The folder `name` below the folder that an option names. Raises InputError if there is none."""
    if not (root / name).is_dir():
        raise InputError(f"{option}: {shown(root)!r} holds no folder {shown(name)!r}; give the folder that holds it")
    return root / name


def inside(name: str) -> bool:
    """Whether a path from a file is one of a file system, relative, and leads to nothing outside its folder."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and no path
        return False
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def lying(root: Path, names: Sequence[str]) -> str:
    """The first of the names that is a file below `root`, else the last, so that reading it says what is missing."""
    return next((name for name in names[:-1] if os.path.isfile(root / name)), names[-1])


def require_some(root: Path, names: Sequence[str], *, option: str) -> None:
    """Raise InputError if none of the first files is below `root`, which is then the wrong folder."""
    if not any(os.path.isfile(root / name) for name in names[:_PROBED]):
        raise InputError(f"{option}: {shown(root)!r} holds no {shown(names[0])!r} nor the next; give their folder")


def walk(root: Path, *, extensions: Sequence[str] | None = None) -> list[str]:
    """The files below `root` with these lower-case extensions (any case on disk), as sorted paths relative to it.
    Without extensions, all.

    Names that begin with a dot are left out. Links to folders are followed; a folder reached twice is listed once, so
    that loops of links end. A link to nothing is listed, so that reading it says what is wrong.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            place = os.stat(root / below)
            if (place.st_dev, place.st_ino) in seen:
                continue
            seen.add((place.st_dev, place.st_ino))
            with os.scandir(root / below) as listing:
                entries = sorted(listing, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise InputError(f"{shown(root / below)}: cannot be listed: {error.strerror}; check permissions") from error
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append(name)
            elif (extensions is None or extension(entry.name) in extensions) and _is_file(entry):
                found.append(name)
    return sorted(found)


def extension(name: str) -> str:
    """The end of a file's name, in lower case and without its dot."""
    return os.path.splitext(name)[1].lower().removeprefix(".")


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A plain file, or a link to one or to nothing; never a pipe or device, which would be waited for."""
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))


def read(path: Path, *, name: str) -> bytes:
    """The bytes of one file of sample `name`. Raises BadSample."""
    try:
        with open(path, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size > MAX_BYTES:
                raise BadSample(f"{name}: has {size:,} bytes, more than {MAX_BYTES:,}")
            return opened.read()
    except OSError as error:
        raise BadSample(f"{name}: {shown(path.name)} cannot be read: {error.strerror}") from error


def read_whole(path: Path) -> bytes:
    """The bytes of a file that describes a data set. Raises InputError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}; check permissions") from error


def text(path: Path) -> str:
    """A file of UTF-8 text that describes a data set, without a byte-order mark. Raises InputError."""
    return decoded(read_whole(path), where=shown(path))


def decoded(data: bytes, *, where: str) -> str:
    """UTF-8 text without a byte-order mark. Raises InputError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text: {error.reason}; save it as UTF-8") from error


def parsed(data: bytes, *, where: str) -> object:
    """What JSON says. where: what an error begins with, the option and the file. Raises InputError."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = printable(str(error))[:100]
        raise InputError(f"{where} is not JSON: {reason}; get the file again") from error
    return value


def sentence(text: str) -> str:
    """A caption on one line, with single spaces, as text that can be encoded: JSON can hold half a surrogate pair."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def class_name(text: object, *, where: str) -> str:
    """A class name from a file, stripped. Raises InputError if it is no text, empty, or holds control characters."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: a class has no name; give each class a name")
    if not text.strip().isprintable():
        raise InputError(f"{where}: the class name {shown(text)!r} holds control characters; remove them")
    return text.strip()


def class_names(path: str, *, option: str) -> tuple[str, ...]:
    """The lines of a file of class names, in label order."""
    found = file(path, option=option)
    lines = text(found).rstrip().split("\n")
    return tuple(class_name(line, where=f"{shown(found)}:{n}") for n, line in enumerate(lines, start=1))


def first(items: Sequence[Item], limit: int | None, *, where: str) -> Sequence[Item]:
    """The first `limit` items, or all. Raises InputError if there are none."""
    if limit is not None and limit < 1:
        raise InputError(f"limit: {limit} is too small; give at least 1, or leave it out for all")
    if not len(items):
        raise InputError(f"{where}; nothing to read")
    return items[:limit]


def digest(parts: Iterable[object]) -> str:
    """A SHA-256 of the parts and their order."""
    state = hashlib.sha256()
    for part in parts:
        text = str(part).encode("utf-8", "surrogateescape")
        state.update(f"{len(text)}:".encode() + text)
    return state.hexdigest()


def sizes(root: Path, names: Iterable[str]) -> Iterable[str | int]:
    """Each name followed by its size in bytes, or -1 where there is no such file: what a digest is made of."""
    for name in names:
        yield name
        try:
            yield os.stat(root / name).st_size
        except OSError:
            yield -1
