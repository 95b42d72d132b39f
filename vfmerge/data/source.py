"""The interface between vfmerge and a data set: a numbered list of pictures, with what is known about each.

This file imports no torch, and a source's module should not either. Making a source reads no picture: it lists files
or reads an index, so that `vfmerge check` can say how large it is.
"""

from __future__ import annotations

import abc
import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path

import numpy as np

BACKGROUND, VOID = -1, -2
"""In a map of pixels: of none of the classes, and not to be judged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture as it is on disk, upright, with its annotations.

    image: uint8 [H, W, 3], RGB. name: unique in its source, for messages.
    masks: bool [N, H, W], none where the source has no masks; N may be 0 or more.
    labels: class numbers into the source's `classes`: int64 [N] for the masks, or [1] for the whole picture, or none.
    rough: whether the masks say where a thing is and not how it is outlined, such as a box or a whole picture.
    pixels: int64 [H, W], the class number of every pixel, BACKGROUND or VOID; none where the source has no such map.
    captions: sentences about the picture, of equal standing. group: which of the source's `groups` it is of, or none.
    key: its id in the source's `annotations` file, or none.
    """

    image: np.ndarray
    name: str
    masks: np.ndarray | None = None
    labels: np.ndarray | None = None
    rough: bool = False
    pixels: np.ndarray | None = None
    captions: tuple[str, ...] = ()
    group: str | None = None
    key: int | str | None = None

    @property
    def text(self) -> str | None:
        """The first caption, or none."""
        return self.captions[0] if self.captions else None


class Source(abc.ABC):
    """A data set. Its options are the keyword-only, annotated parameters of its `__init__`, checked by the recipe.

    What is wrong with its options or files is an `InputError` that names the option or the file.
    """

    has_masks: bool = False
    has_pixels: bool = False
    has_captions: bool = False
    classes: tuple[str, ...] = ()
    """Names of the classes that labels and pixels count, if the source has any."""
    unseen: frozenset[str] = frozenset()
    """Those of `classes` that no training may see: novel classes, by which an open vocabulary is judged."""
    groups: tuple[str, ...] = ()
    """Names of the groups that its pictures are of, if they are of groups."""
    dropped: Mapping[str, int] = types.MappingProxyType({})
    """How many of its annotations are left out, by the reason for it."""
    annotations: Path | None = None
    """The file of COCO's or LVIS's format that the masks are from, for tools that score against such a file."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, index: int) -> Sample:
        """Sample number `index`. Raises BadSample (vfmerge.errors), naming the sample and what is wrong with it."""

    @abc.abstractmethod
    def digest(self) -> str:
        """A SHA-256 of what fixes the list of samples (names and sizes of files, not every pixel), for the manifest."""
