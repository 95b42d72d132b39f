"""The pictures that a person names on a command line: files, and folders that are walked."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vfmerge.data import paths, picture
from vfmerge.errors import InputError, one_line

_LONGEST = 150  # bytes of a part of a name: with an extension and what a commit puts before it, below any disk's limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A picture's file. name: what answers about it are called, a relative path of no other picture."""

    path: Path
    name: str


def find(given: Sequence[Path], *, out: Path) -> list[Found]:
    """The pictures of files and folders, each once, in order; those below `out` are answers, and left out.

    Raises InputError for what does not exist, is neither file nor folder, or holds no picture.
    """
    found: list[Found] = []
    seen: set[Path] = set()
    names: set[str] = set()
    for path, name in _files(given, out=out.resolve()):
        if path.resolve() not in seen:
            seen.add(path.resolve())
            found.append(Found(path=path, name=_unique(name, names)))
    return found


def _files(given: Sequence[Path], *, out: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Each file, and what it is called: its path below the folder that was given."""
    for each in given:
        path = each.expanduser()
        if path.is_file():
            yield path, PurePosixPath(path.name)
        elif path.is_dir():
            every = paths.walk(path, extensions=picture.EXTENSIONS)
            below = [name for name in every if not (path / name).resolve().is_relative_to(out)]
            if not below:
                kinds = ", ".join(picture.EXTENSIONS)
                raise InputError(one_line(f"{paths.shown(each)}: holds no picture; give a folder that has {kinds}"))
            yield from ((path / name, PurePosixPath(name)) for name in below)
        else:
            raise InputError(one_line(f"{paths.shown(each)}: no such file or folder of pictures; mend the path"))


def _unique(path: PurePosixPath, names: set[str]) -> str:
    """A name of no other picture, whatever a disk thinks of upper and lower case: `a`, then `a-2`."""
    plain = "/".join([*map(_short, path.parts[:-1]), _short(path.stem)])
    name, number = plain, 1
    while name.casefold() in names:
        number += 1
        name = f"{plain}-{number}"
    names.add(name.casefold())
    return name


def _short(part: str) -> str:
    """A part of a path that every disk takes: a long one loses its end to a hash."""
    data = os.fsencode(part)
    if len(data) <= _LONGEST:
        return part
    return f"{os.fsdecode(data[:100]).encode('utf-8', 'ignore').decode()}-{hashlib.sha256(data).hexdigest()[:8]}"
