"""WebDataset shards: tars of pictures with captions or labels beside them, read at random."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vfmerge.data import paths, picture
from vfmerge.data.shards import Shards
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError

_PICTURES = ("jpg", "jpeg", "png", "webp")
_NOT_A_PATH = re.compile(r"pipe:|[A-Za-z][A-Za-z0-9+.-]*://")
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MAX_SHARDS = 100_000


class WebDataset(Source):
    """The samples of one or more tars, in the order of the shards and, within one, of the samples.

    path: a tar, a folder of tars, or a pattern as `images-{000..099}.tar`. Of a sample, the picture (jpg, jpeg, png,
    webp), a caption (txt, UTF-8) and a class number (cls) are read, and nothing else is ever decoded.
    classnames: a file with a name for each class, one a line, from number 0 on. limit: only the first so many.
    whole: each picture has one mask, all of it, of its class: where a thing is, and not how it is outlined.
    """

    def __init__(
        self, *, path: str, classnames: str | None = None, whole: bool = False, limit: int | None = None
    ) -> None:
        if whole and classnames is None:
            raise InputError(
                "whole: a mask of a whole picture is of its class, but classes have no names; give classnames"
            )
        self.has_masks = whole
        files = _files(path)
        root = Path(os.path.commonpath([file.parent for file in files]))
        self._shards = Shards(files, root=root, extensions=(*_PICTURES, "txt", "cls"))
        self._indices = paths.first(range(len(self._shards)), limit, where=f"path: no samples in {paths.shown(path)!r}")
        shard, row, _ = self._shards.locate(0)
        self.has_captions = "txt" in shard.members(row)
        if classnames is not None:
            self.classes = paths.class_names(classnames, option="classnames")

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> Sample:
        shard, row, name = self._shards.locate(self._indices[index])
        members = shard.members(row)
        kind = next((kind for kind in _PICTURES if kind in members), None)
        if kind is None:
            raise BadSample(f"{name}: has no picture ({', '.join(_PICTURES)}) beside its {', '.join(members)}")
        image = picture.decode(shard.read(row, kind, name=name), name=name)
        text = _caption(shard.read(row, "txt", name=name), name=name) if "txt" in members else None
        labels = self._labels(shard.read(row, "cls", name=name), name=name) if "cls" in members else None
        if self.has_masks and labels is None:
            raise BadSample(f"{name}: has no class (cls) that the whole picture could be of")
        masks = np.ones((1, *image.shape[:2]), dtype=bool) if self.has_masks else None
        captions = (text,) if text else ()
        return Sample(image=image, name=name, masks=masks, labels=labels, rough=self.has_masks, captions=captions)

    def digest(self) -> str:
        whole = ["whole"] if self.has_masks else []
        return paths.digest(["webdataset", len(self), *self.classes, *self._shards.contents(), *whole])

    def _labels(self, data: bytes, *, name: str) -> np.ndarray:
        text = data.strip()
        if not text.isdigit() or len(text) > 9:
            raise BadSample(f"{name}: its .cls is no class number")
        label = int(text)
        if self.classes and label >= len(self.classes):
            raise BadSample(f"{name}: its class number {label} has no name among {len(self.classes)}")
        return np.array([label], dtype=np.int64)


def _caption(data: bytes, *, name: str) -> str:
    try:
        return " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise BadSample(f"{name}: its .txt is not UTF-8") from error


def _files(path: str) -> list[Path]:
    """The shards that a path, folder or pattern names, all of which exist."""
    if _NOT_A_PATH.match(path):
        raise InputError(f"path: {paths.shown(path)!r} is no path; commands and addresses are refused, copy the shards")
    if _RANGE.search(path) and not os.path.exists(os.path.expanduser(path)):
        return [paths.file(name, option="path") for name in _expand(path)]
    found = paths.existing(path, option="path")
    if not found.is_dir():
        return [found]
    names = paths.walk(found, extensions=("tar",))
    return [found / name for name in paths.first(names, None, where=f"path: no .tar below {paths.shown(found)!r}")]


def _expand(pattern: str) -> Iterator[str]:
    """`x-{008..010}` to `x-008`, `x-009`, `x-010`; with several ranges, all combinations."""
    parts = _RANGE.split(pattern)
    texts, starts, ends = parts[0::3], parts[1::3], parts[2::3]
    ranges = [range(int(start), int(end) + 1) for start, end in zip(starts, ends, strict=True)]
    if not 0 < math.prod(map(len, ranges)) <= _MAX_SHARDS:
        raise InputError(f"path: {paths.shown(pattern)!r} is a pattern of no shards or of more than {_MAX_SHARDS:,}")
    for numbers in itertools.product(*ranges):
        padded = [str(number).zfill(len(start)) for number, start in zip(numbers, starts, strict=True)]
        yield "".join(text + number for text, number in zip(texts, [*padded, ""], strict=True))
