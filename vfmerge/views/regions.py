"""A picture whose pixels are of coloured regions.

Axis letters: H x W pixels of a picture, of its own or as it is shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vfmerge.benchmarks.two_heads import components

from .panel import INK, Panel, font, rgb

_OPACITY = 0.72


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Regions(Panel):
    """Regions in colour on the grey picture, outlined, the largest part of each named.

    regions: int64 [H, W], which region each pixel is of, below 0 for none. colours: one a region. names: the same,
    empty for a region without.
    """

    regions: np.ndarray
    colours: Sequence[str]
    names: Sequence[str]

    def draw(self, image: Image.Image) -> Image.Image:
        regions = np.array(Image.fromarray(self.regions.astype(np.int32)).resize(image.size, Image.Resampling.NEAREST))
        image = _paint(image, regions, self.colours)
        _name(image, regions, self.names)
        return image

    def describe(self) -> str:
        """The names of the regions, the largest first."""
        numbers, areas = np.unique(self.regions[self.regions >= 0], return_counts=True)
        found = [self.names[number] for number in numbers[np.argsort(-areas)] if self.names[number]]
        return ", ".join(found) or ("regions without names" if len(numbers) else "nothing marked")


def _paint(image: Image.Image, regions: np.ndarray, colours: Sequence[str]) -> Image.Image:
    grey = np.repeat(np.asarray(image.convert("L"), dtype=float)[..., None], 3, axis=2)
    table = np.array([rgb(colour) for colour in colours], dtype=float)
    inside = (regions >= 0)[..., None]
    painted = np.where(inside, (1 - _OPACITY) * grey + _OPACITY * table[np.maximum(regions, 0)], 0.75 * grey + 50)
    edge = np.zeros(regions.shape, dtype=bool)
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    edge[1:] |= regions[1:] != regions[:-1]
    painted[edge] = 255
    return Image.fromarray(painted.astype(np.uint8))


def _name(image: Image.Image, regions: np.ndarray, names: Sequence[str]) -> None:
    """Write each region's name on its largest part, unless that is too small to bear it."""
    pen = ImageDraw.Draw(image)
    coarse = regions[2::4, 2::4]  # a quarter of the side is enough to find a place
    for number in np.unique(coarse[coarse >= 0]):
        part = max(components(coarse == number), key=np.count_nonzero)
        if part.mean() > 0.015 and names[number]:
            rows, columns = part.nonzero()
            nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
            half = pen.textlength(names[number], font=font()) / 2 + 3
            x = min(max(4 * columns[nearest] + 2, half), image.width - half)
            y = min(max(4 * rows[nearest] + 2, 10), image.height - 10)
            pen.text((x, y), names[number], fill="white", font=font(), anchor="mm", stroke_width=2, stroke_fill=INK)
