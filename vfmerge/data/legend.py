"""What the numbers in a mask mean: classes, background, or not to be judged.

A number that means nothing makes a BadSample. Taken as not to be judged, it would hide that a mask was made for another
list of classes, and a figure would look better for it.

Axis letters: H x W pixels, N segments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vfmerge.data.source import BACKGROUND, VOID
from vfmerge.errors import BadSample, InputError

_LARGEST = (1 << 16) - 1  # what a PNG of one channel can hold
_NOTHING = -3


class Legend:
    """The same numbers in all masks, as index PNGs have them.

    values: the number of each class, in order. background: the number of what is of no class, if there is one.
    void: numbers not to be judged. Raises InputError, naming the option, if one number means two things.
    """

    def __init__(self, values: Sequence[int], *, background: int | None = None, void: Sequence[int] = ()) -> None:
        self._classes = np.full(_LARGEST + 1, _NOTHING, dtype=np.int64)
        for number, value in enumerate(values):
            self._mean(value, number, option="values")
        if background is not None:
            self._mean(background, BACKGROUND, option="background")
        for value in void:
            self._mean(value, VOID, option="void")

    def label(self, stored: np.ndarray) -> np.ndarray:
        """The class of each pixel, int64 [H, W], of stored numbers [H, W]. Raises BadSample with the reason alone."""
        pixels: np.ndarray = self._classes[stored]
        if pixels.min() == _NOTHING:
            value = int(stored[pixels == _NOTHING][0])
            raise BadSample(f"its mask holds the value {value}, which is of no class, not background and not void")
        return pixels

    def _mean(self, value: int, meaning: int, *, option: str) -> None:
        if not 0 <= value <= _LARGEST:
            raise InputError(f"{option}: {value} cannot be in an index PNG; give 0 to {_LARGEST}")
        if self._classes[value] != _NOTHING:
            raise InputError(f"{option}: {value} has a meaning already, {_called(self._classes[value])}; give another")
        self._classes[value] = meaning


@dataclasses.dataclass(frozen=True, slots=True)
class Segments:
    """The numbers of one mask: ids of segments, as panoptic PNGs have them; 0 is of no segment and not judged.

    ids: int64 [N], ascending. classes: int64 [N].
    """

    ids: np.ndarray
    classes: np.ndarray

    def label(self, stored: np.ndarray) -> np.ndarray:
        """The class of each pixel, int64 [H, W], of colours [H, W, 3] (R + 256 G + 256^2 B). Raises BadSample with
        the reason alone."""
        red, green, blue = np.moveaxis(stored.astype(np.int64), -1, 0)
        numbers = red + 256 * green + 256**2 * blue  # [H, W]
        ids, classes = np.append(self.ids, 1 << 24), np.append(self.classes, _NOTHING)  # so that a search ends inside
        places = np.searchsorted(ids, numbers)
        pixels: np.ndarray = np.where(ids[places] == numbers, classes[places], _NOTHING)
        pixels[numbers == 0] = VOID
        if pixels.min() == _NOTHING:
            value = int(numbers[pixels == _NOTHING][0])
            raise BadSample(f"its mask holds the segment {value}, which is not in segments_info")
        return pixels


def _called(meaning: int) -> str:
    return {BACKGROUND: "background", VOID: "void"}.get(int(meaning), f"class number {meaning}")
