"""The interface between vfmerge and a data set: a numbered list of pictures, with what is known about each.

This file imports no torch, and a source's module should not either. Making a source reads no picture: it lists files
or reads an index, so that `vfmerge check` can say how large it is.
"""

from __future__ import annotations

import abc
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture as it is on disk, upright, with its annotations.

    image: uint8 [H, W, 3], RGB. name: unique in its source, for messages.
    masks: bool [N, H, W], none where the source has no masks; N may be 0 or more.
    labels: class numbers into the source's `classes`: int64 [N] for the masks, or [1] for the whole picture, or none.
    text: a caption, or none.
    """

    image: np.ndarray
    name: str
    masks: np.ndarray | None = None
    labels: np.ndarray | None = None
    text: str | None = None


class Source(abc.ABC):
    """A data set. Its options are the keyword-only, annotated parameters of its `__init__`, checked by the recipe.

    What is wrong with its options or files is an `InputError` that names the option or the file.
    """

    has_masks: bool = False
    classes: tuple[str, ...] = ()
    """Names of the classes that labels count, if the source has labels."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, index: int) -> Sample:
        """Sample number `index`. Raises BadSample (vfmerge.errors), naming the sample and what is wrong with it."""

    @abc.abstractmethod
    def digest(self) -> str:
        """A SHA-256 of what fixes the list of samples (names and sizes of files, not every pixel), for the manifest."""
