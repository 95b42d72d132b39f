"""Large pictures, whose masks are found smaller than they are: what is wanted of them is enlarged in the end.

A model looks at a square of at most some thousand pixels, and all that its masks have beyond that is interpolated: of a
photograph of 12 megapixels, twelve times the work for nothing new, for every mask that was asked for and dropped again.

Axis letters: H x W pixels of the picture, h x w pixels of what is found in it, N masks.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 1024  # chosen here: SAM's own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reduction:
    """Of a picture whose longer side has more than 1024 pixels; none of a smaller one.

    frame: H, W. inner: h, w.
    """

    frame: tuple[int, int]
    inner: tuple[int, int]

    @classmethod
    def of(cls, picture: np.ndarray) -> Reduction:
        """picture: uint8 [H, W, 3]."""
        height, width = picture.shape[:2]
        scale = min(SIDE / max(height, width), 1.0)
        inner = max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
        return cls(frame=(height, width), inner=inner)

    @property
    def none(self) -> bool:
        return self.inner == self.frame

    def picture(self, picture: np.ndarray) -> np.ndarray:
        """The picture itself, uint8 [h, w, 3]; a SAM of that side sees the pixels that it would have seen anyway."""
        if self.none:
            return picture
        size = self.inner[1], self.inner[0]
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))

    def inward(self, places: Tensor) -> Tensor:
        """Pixels of the picture [..., 2], x and y, to those of what is found."""
        return places * places.new_tensor([self.inner[1] / self.frame[1], self.inner[0] / self.frame[0]])

    def outward(self, logits: Tensor) -> np.ndarray:
        """Where logits [h, w], enlarged bilinearly, exceed 0: bool [H, W]."""
        if not self.none:
            grid = logits.float()[None, None]
            logits = F.interpolate(grid, size=self.frame, mode="bilinear", align_corners=False)[0, 0]
        return np.asarray((logits > 0).cpu().numpy())

    def share(self, inside: np.ndarray) -> np.ndarray:
        """How much of each of the picture's pixels lies in what is bool [h, w], bilinearly: uint8 [H, W] in 0..255."""
        grey = Image.fromarray(inside.astype(np.uint8) * 255)
        return np.asarray(grey.resize((self.frame[1], self.frame[0]), Image.Resampling.BILINEAR))
