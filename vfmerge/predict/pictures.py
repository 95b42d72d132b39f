"""The pictures that a person names on a command line: files, and folders that are walked."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vfmerge.data import paths, picture
from vfmerge.errors import InputError, one_line

KINDS = ", ".join(picture.EXTENSIONS)
"""How the names of files end that are taken for pictures."""

_LONGEST = 150  # bytes of a part of a name: with an extension and what a commit puts before it, below any disk's limit
_DIGITS = 15  # of a number that JSON's numbers, which are doubles, hold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A picture's file. name: what answers about it are called, a relative path of no other picture.

    file: its path below the folder that was given. id: the number that the file is called, as in COCO; where it is
    called by no number, or by another picture's too, its `file`; where that is another picture's too, its path.
    """

    path: Path
    name: str
    file: str
    id: int | str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """What was found. others: how many files of folders were passed over, since they are called as no picture is."""

    found: tuple[Found, ...]
    others: int


def find(given: Sequence[Path], *, out: Path) -> Pictures:
    """The pictures of files and folders, each once, in order; those below `out` are answers, and left out.

    Raises InputError for what does not exist, is neither file nor folder, or holds no picture.
    """
    files: dict[Path, tuple[Path, PurePosixPath]] = {}
    others: set[Path] = set()
    for each in given:
        path = each.expanduser()
        if path.is_file():
            files.setdefault(path.resolve(), (path, PurePosixPath(path.name)))
        elif path.is_dir():
            for name in _below(path, shown=paths.shown(each), out=out.resolve()):
                place = (path / name).resolve()
                if _is_picture(name):
                    files.setdefault(place, (path / name, PurePosixPath(name)))
                else:
                    others.add(place)
        else:
            raise InputError(one_line(f"{paths.shown(each)}: no such file or folder of pictures; mend the path"))
    return Pictures(found=tuple(_called(list(files.values()))), others=len(others))


def _below(root: Path, *, shown: str, out: Path) -> list[str]:
    """The files below a folder, but for those of `out`, as paths relative to it."""
    every = [name for name in paths.walk(root) if not (root / name).resolve().is_relative_to(out)]
    if not any(map(_is_picture, every)):
        raise InputError(one_line(f"{shown}: holds no picture; give a folder that has {KINDS}"))
    return every


def _is_picture(name: str) -> bool:
    return paths.extension(name) in picture.EXTENSIONS


def _called(files: Sequence[tuple[Path, PurePosixPath]]) -> Iterator[Found]:
    """Each file with names of its own. files: with their paths below the folders that were given."""
    names: set[str] = set()
    numbers = Counter(_number(file) for _, file in files)
    times = Counter(file for _, file in files)
    for path, file in files:
        number = _number(file)
        called = str(file) if times[file] == 1 else str(path)
        yield Found(
            path=path,
            name=_unique(file, names),
            file=str(file),
            id=called if number is None or numbers[number] > 1 else number,
        )


def _number(file: PurePosixPath) -> int | None:
    """What the file is called, if that is a number."""
    digits = file.stem.isascii() and file.stem.isdecimal() and len(file.stem) <= _DIGITS
    return int(file.stem) if digits else None


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
