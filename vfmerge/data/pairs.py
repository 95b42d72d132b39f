"""Pictures and the PNGs that number their pixels: two trees of files that belong together by name.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import abc
import collections
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vfmerge.data import paths, picture
from vfmerge.data.legend import Legend
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError


class Pairs:
    """A list of pictures, each with its mask. images, masks: the two folders. files: picture and mask in these."""

    def __init__(self, images: Path, masks: Path, *, files: Sequence[tuple[str, str]]) -> None:
        self._images, self._masks, self._files = images, masks, files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int, label: Callable[[np.ndarray], np.ndarray], *, colours: bool = False) -> Sample:
        """A picture with its pixels' classes.

        label: makes them, int64 [H, W], of the numbers as stored, [H, W] or with `colours` [H, W, 3]; the reason why it
        cannot is a BadSample. A picture that has not the size of its mask is a BadSample too.
        """
        file, drawn = self._files[index]
        name = paths.printable(file)
        stored = picture.decode_numbers(paths.read(self._masks / drawn, name=name), name=name, colours=colours)
        height, width = stored.shape[:2]
        image = picture.decode(paths.read(self._images / file, name=name), name=name, annotated=(height, width))
        try:
            return Sample(image=image, name=name, pixels=label(stored))
        except BadSample as error:
            raise BadSample(f"{name}: {error}") from error

    def contents(self) -> Iterator[str | int]:
        """Names and sizes of all files, for a digest."""
        yield from paths.sizes(self._images, [file for file, _ in self._files])
        yield from paths.sizes(self._masks, [drawn for _, drawn in self._files])


class Numbered(Source):
    """Pictures whose masks have the same numbers everywhere: what several layouts have in common."""

    has_pixels = True
    _pairs: Pairs
    _legend: Legend

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, index: int) -> Sample:
        return self._pairs.read(index, self._legend.label)

    def digest(self) -> str:
        return paths.digest([*self.facts(), *self._pairs.contents()])

    @abc.abstractmethod
    def facts(self) -> list[object]:
        """What fixes the samples beside their files: the layout, its classes, what its numbers mean."""


def match(images: Path, masks: Path, *, suffix: str, stems: Sequence[str], limit: int | None) -> Pairs:
    """The first `limit` stems as pairs: for `a/b`, the picture `a/b` of any extension, and the mask `a/b` + suffix.

    A stem without a picture is a BadSample when it is read, and an InputError if that is so of all of them.
    """
    together = images.samefile(masks)
    pictures: dict[str, str] = {}
    for file in paths.walk(images, extensions=picture.EXTENSIONS):
        if together and file.endswith(suffix):
            continue
        stem = file.rpartition(".")[0]
        if stem in pictures:
            rival = paths.shown(pictures[stem])
            raise InputError(f"{paths.shown(images / file)}: is a picture of the same name as {rival!r}; remove one")
        pictures[stem] = file
    if not pictures.keys() & set(stems):
        raise InputError(
            f"{paths.shown(images)}: holds no picture {paths.shown(stems[0])!r} nor the next, of any extension; give "
            "the folder of these pictures"
        )
    chosen = paths.first(stems, limit, where=f"{paths.shown(masks)}: has no masks")
    return Pairs(images, masks, files=[(pictures.get(stem, f"{stem}.jpg"), stem + suffix) for stem in chosen])


def stems(masks: Path, *, suffix: str, option: str) -> list[str]:
    """What there are masks of, in order: the files below the folder whose names end in `suffix`, without that."""
    found = [file.removesuffix(suffix) for file in paths.walk(masks, extensions=("png",)) if file.endswith(suffix)]
    if not found:
        raise InputError(
            f"{option}: {paths.shown(masks)!r} holds no *{paths.shown(suffix)}; give the folder of the masks"
        )
    return found


def listed(path: Path) -> list[str]:
    """The lines of a file that lists a split, in its order. Raises InputError."""
    lines = [line.strip() for line in paths.text(path).split("\n")]
    where = paths.shown(path)
    for number, line in enumerate(lines, start=1):
        if line and not paths.inside(line):
            raise InputError(f"{where}:{number}: {paths.shown(line)!r} is no relative path without `..`; mend it")
    found = [line for line in lines if line]
    if not found:
        raise InputError(f"{where}: lists nothing; give one name a line, without extension")
    [(most, times)] = collections.Counter(found).most_common(1)
    if times > 1:
        raise InputError(f"{where}: {paths.shown(most)!r} comes {times} times; leave one")
    return found
