"""A picture of which single things are seen, and the boxes that ask for them.

Axis letters: N things, H x W pixels of a picture, of its own or as it is shown.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .names import Frame, Name, write
from .panel import INK, THINGS, Panel, rgb


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Asked(Panel, abc.ABC):
    """A picture in which boxes ask for things: float [N, 4], x0, y0, x1, y1, far pixels inclusive."""

    boxes: np.ndarray

    @property
    def colours(self) -> list[str]:
        """One a thing, the same on every panel that is asked by these boxes."""
        return [THINGS[number % len(THINGS)] for number in range(len(self.boxes))]

    def frames(self, image: Image.Image) -> list[Frame]:
        """The boxes as they are shown, around their far pixels too."""
        factor = image.width / self.picture.shape[1]
        return [(factor * x0, factor * y0, factor * (x1 + 1), factor * (y1 + 1)) for x0, y0, x1, y1 in self.boxes]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Boxes(Asked):
    """The picture with the boxes."""

    def draw(self, image: Image.Image) -> Image.Image:
        pen = ImageDraw.Draw(image)
        for (left, top, right, bottom), colour in zip(self.frames(image), self.colours, strict=True):
            pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK, width=4)
            pen.rectangle((left, top, right, bottom), outline=colour, width=2)
        return image

    def describe(self) -> str:
        return f"{len(self.boxes)} box{'es' * (len(self.boxes) > 1)}"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cutouts(Asked):
    """Things in the picture's own colours, outlined, and everything else faint.

    Since names may be of colours (a red circle), a thing's own is not painted over; its outline is that of its box.
    masks: bool [N, H, W]. names: N, or none.
    """

    masks: np.ndarray
    names: Sequence[Name] = ()

    def draw(self, image: Image.Image) -> Image.Image:
        masks = np.stack([_enlarge(mask, image.size) for mask in self.masks])
        seen, grey = np.asarray(image), np.asarray(image.convert("L"))[..., None]
        painted = np.where(np.max(masks, axis=0)[..., None], seen, 0.3 * grey + 165).astype(np.uint8)
        for number in np.argsort(-masks.sum((1, 2)), kind="stable"):  # the smaller over the larger
            mask = Image.fromarray(masks[number].astype(np.uint8))
            painted[np.asarray(mask.filter(ImageFilter.MaxFilter(3))) > masks[number]] = rgb(INK)
            painted[np.asarray(mask.filter(ImageFilter.MinFilter(5))) < masks[number]] = rgb(self.colours[number])
        image = Image.fromarray(painted)
        if self.names:
            write(image, self.names, frames=self.frames(image), colours=self.colours)
        return image

    def describe(self) -> str:
        """The names of the things, one by one."""
        return ", ".join(name.described for name in self.names) or "outlines without names"


def _enlarge(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask [H, W] as it is shown: of each of its pixels what is more than half inside."""
    grown = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grown) > 127
