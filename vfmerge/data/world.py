"""The shapes world as a data set: nothing to download, exact masks, labels and captions."""

from __future__ import annotations

import json
import re
from typing import Literal

import numpy as np

from vfmerge.data import paths
from vfmerge.data.shapes import COLOURS, SHAPES, scene
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

SIDES = range(16, 4097)  # from 16 pixels on, a single shape is never too small to be seen


class Shapes(Source):
    """Drawn scenes of textured shapes, the same on every machine.

    layout: one shape a picture, several, or mixed with pictures of none. split: a word; other words give other scenes.
    count: how many pictures. size: their side in pixels. masks: give a mask and a label for each shape; without, a
    picture of layout `single` has one label. groups: pictures of layout `single` are grouped by the shape's colour.
    seed: another seed gives other scenes.
    """

    classes = SHAPES
    has_captions = True

    def __init__(
        self,
        *,
        layout: Literal["single", "several", "mixed"] = "several",
        split: str = "train",
        count: int = 4096,
        size: int = 96,
        masks: bool = True,
        groups: bool = False,
        seed: int = 0,
    ) -> None:
        if layout not in ("single", "several", "mixed"):
            raise InputError(f"layout: {paths.shown(layout)!r} is unknown; give single, several or mixed")
        if not re.fullmatch(r"[\w.-]{1,64}", split):
            raise InputError(f"split: {paths.shown(split)!r} is no word; give letters, digits, dots and dashes")
        if count < 1:
            raise InputError(f"count: {count} is too small; give at least 1")
        if size not in SIDES:
            raise InputError(f"size: {size} is out of range; give {SIDES.start} to {SIDES.stop - 1} pixels")
        if groups and layout != "single":
            raise InputError(
                f"groups: a picture of layout {layout} has shapes of several colours; set layout to single"
            )
        self.has_masks = masks
        self.groups = tuple(sorted(COLOURS)) if groups else ()
        self._layout, self._split, self._count, self._size, self._seed = layout, split, count, size, seed

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Sample:
        name = f"shapes/{self._split}/{self._layout}/{index}"
        drawn = scene(seed=self._seed, split=self._split, index=index, layout=self._layout, size=self._size)
        numbers = np.array([SHAPES.index(shape.name) for shape in drawn.shapes], dtype=np.int64)
        return Sample(
            image=drawn.image,
            name=name,
            masks=drawn.masks if self.has_masks else None,
            labels=numbers if self.has_masks or self._layout == "single" else None,
            captions=(drawn.caption,),
            group=drawn.shapes[0].colour if self.groups else None,
        )

    def digest(self) -> str:
        options = [self._layout, self._split, self._count, self._size, self.has_masks, self._seed]
        return paths.digest(["shapes", json.dumps(options), *self.groups])
