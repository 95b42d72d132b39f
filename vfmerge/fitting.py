"""How a picture becomes a square input, and its masks with it; for training also at another scale, or mirrored.

Axis letters: H x W pixels of the picture, S side of the square.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vfmerge import random

if TYPE_CHECKING:
    from vfmerge.recipe import Stream

PADDING = (124, 116, 104)
"""What fills a square beside the picture, red, green and blue in 0..255: ImageNet's mean colour, which SAM's trunk and
nearly every other normalises to about zero, as SAM's own padding is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting:
    """The same for a picture and its masks, whatever side they are brought to.

    cropped: the shorter side fills the square and the rest is cut off (CLIP's way); else the longer one does, and what
    is left below and to the right is padding (SAM's way). scale: times as large as that. place: of what stands out of
    the square, the share that is cut off above and to the left. mirrored: left and right are exchanged.
    """

    cropped: bool
    scale: float = 1.0
    place: tuple[float, float] = (0.5, 0.5)
    mirrored: bool = False

    def image(self, image: np.ndarray, size: int) -> np.ndarray:
        """A picture, uint8 [H, W, 3], as a square of `size` pixels."""
        return self._fit(image, size, Image.Resampling.BICUBIC, fill=PADDING)

    def mask(self, mask: np.ndarray, size: int) -> np.ndarray:
        """A mask, bool [H, W], as a square of `size` pixels, as `image` fits its picture."""
        return self._fit(mask, size, Image.Resampling.NEAREST, fill=False)

    def _fit(self, array: np.ndarray, size: int, resampling: Image.Resampling, *, fill: object) -> np.ndarray:
        scaled = self._resize(array, size, resampling)
        seen = scaled[tuple(map(self._window, scaled.shape[:2], self.place, (size, size)))]
        seen = seen[:, ::-1] if self.mirrored else seen
        height, width = seen.shape[:2]
        if height == width == size:
            return np.ascontiguousarray(seen)
        square = np.empty((size, size, *array.shape[2:]), dtype=array.dtype)
        square[:] = fill
        square[:height, :width] = seen
        return square

    def _resize(self, array: np.ndarray, size: int, resampling: Image.Resampling) -> np.ndarray:
        height, width = array.shape[:2]
        ratio = self.scale * size / (min(height, width) if self.cropped else max(height, width))
        new = max(round(height * ratio), 1), max(round(width * ratio), 1)
        if new == (height, width):
            return array
        return np.asarray(Image.fromarray(array).resize((new[1], new[0]), resampling))

    @staticmethod
    def _window(length: int, place: float, size: int) -> slice:
        """Which of so many pixels lie in the square."""
        first = int(place * max(length - size, 0))
        return slice(first, first + size)


def fitting(stream: Stream, key: int) -> Fitting:
    """How a stream fits a sample: a pure function of the sample's key, which decides nothing where nothing is drawn."""
    plain = Fitting(cropped=stream.fit == "crop")
    if not stream.augments:
        return plain
    low, high = stream.scale
    scale, down, right, mirror = random.generator(key, "fitting").random(4)
    return dataclasses.replace(
        plain,
        scale=low + (high - low) * float(scale),
        place=(float(down), float(right)) if low < high else plain.place,
        mirrored=bool(mirror < stream.flip),
    )
