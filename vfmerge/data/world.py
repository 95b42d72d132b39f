"""The shapes world as a data set: nothing to download, exact masks, labels and captions."""

from __future__ import annotations

import json
import re
from typing import Literal

import numpy as np

from vfmerge.data import classnames, paths
from vfmerge.data.classnames import Keep
from vfmerge.data.shapes import COLOURS, SHAPES, Shape, scene, single
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

SIDES = range(16, 4097)  # from 16 pixels on, a single shape is never too small to be seen

PAIRS = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
UNSEEN = frozenset(
    f"{colour} {shape}"
    for row, shape in enumerate(SHAPES)
    for column, colour in enumerate(COLOURS)
    if (row + column) % 4 == 0  # chosen here: every shape and every colour is in pairs that are seen
)
"""The 12 of the 48 pairs of a colour and a shape that are novel."""


class Shapes(Source):
    """Drawn scenes of textured shapes, the same on every machine.

    layout: one shape a picture, several, or mixed with pictures of none. split: a word; other words give other scenes.
    count: how many pictures. size: their side in pixels. masks: give a mask and a label for each shape; without, a
    picture of layout `single` has one label. groups: pictures of layout `single` are grouped by the shape's colour.
    seed: another seed gives other scenes.
    names: what classes are: the 8 shapes, or with `colour` the 48 pairs as "red circle", those of a shape together.
    unseen: 12 of these pairs are novel, always the same. keep: all, to judge a model; or seen, to train it, which gives
    neither mask nor label for things of novel pairs, nor their names; of layout `single` their pictures are left out.
    Captions and pictures still tell and show them.
    """

    classes: tuple[str, ...] = SHAPES
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
        names: Literal["shape", "colour"] = "shape",
        unseen: bool = False,
        keep: Keep = "all",
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
        self.classes, self.unseen = _classes(names, unseen=unseen, keep=keep)
        self._paired = names == "colour"
        self._scenes = self._choose(count) if layout == "single" and keep == "seen" else range(count)

    def __len__(self) -> int:
        return len(self._scenes)

    def read(self, index: int) -> Sample:
        number = self._scenes[index]
        drawn = scene(seed=self._seed, split=self._split, index=number, layout=self._layout, size=self._size)
        names = [self._class(shape) for shape in drawn.shapes]
        kept = [place for place, name in enumerate(names) if name in self.classes]
        labels = np.array([self.classes.index(names[place]) for place in kept], dtype=np.int64)
        return Sample(
            image=drawn.image,
            name=f"shapes/{self._split}/{self._layout}/{number}",
            masks=drawn.masks[kept] if self.has_masks else None,
            labels=labels if self.has_masks or self._layout == "single" else None,
            captions=(drawn.caption,),
            group=drawn.shapes[0].colour if self.groups else None,
        )

    def digest(self) -> str:
        options = [self._layout, self._split, self._count, self._size, self.has_masks, self._seed]
        pairs = [*self.classes, "unseen", *sorted(self.unseen)] if self._paired else []
        return paths.digest(["shapes", json.dumps(options), *self.groups, *pairs])

    def _class(self, shape: Shape) -> str:
        return f"{shape.colour} {shape.name}" if self._paired else shape.name

    def _choose(self, count: int) -> list[int]:
        """The numbers of the scenes of a single shape that show one of the classes."""
        drawn = (single(seed=self._seed, split=self._split, index=number) for number in range(count))
        chosen = [number for number, shape in enumerate(drawn) if self._class(shape) in self.classes]
        if not chosen:
            raise InputError(f"count: none of {count} pictures shows a thing of a seen class; give more")
        return chosen


def _classes(names: str, *, unseen: bool, keep: Keep) -> tuple[tuple[str, ...], frozenset[str]]:
    """The classes that are kept and the unseen ones of them, as the options of these names say. Raises InputError."""
    if names not in ("shape", "colour"):
        raise InputError(f"names: {paths.shown(names)!r} is unknown; give shape or colour")
    if unseen and names != "colour":
        raise InputError("unseen: what is novel are pairs of a colour and a shape; set names to colour")
    classnames.require_split(keep, told=unseen)
    known = PAIRS if names == "colour" else SHAPES
    return classnames.kept(known, unseen=UNSEEN if unseen else frozenset(), keep=keep)
