"""Where a picture lies in its model's input square.

Axis letters: N prompts, K masks a prompt, H x W pixels of the picture, S side of the input square.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """A picture of `outer` height and width as the upper left `inner` pixels of a square of `side` pixels.

    padded: whether the rest of the square is padding (SAM), or the picture was stretched to fill it (SAM 2 and 3).
    """

    side: int
    outer: tuple[int, int]
    padded: bool

    @property
    def inner(self) -> tuple[int, int]:
        if not self.padded:
            return self.side, self.side
        scale = self.side / max(self.outer)
        return int(self.outer[0] * scale + 0.5), int(self.outer[1] * scale + 0.5)

    def inward(self, places: Tensor) -> Tensor:
        """Pixels of the picture [..., 2], x and y, to those of the square."""
        ratio = [self.inner[1] / self.outer[1], self.inner[0] / self.outer[0]]
        return (places.double() * torch.tensor(ratio, dtype=torch.double, device=places.device)).float()

    def outward(self, logits: Tensor) -> Tensor:
        """Mask logits of the square [N, K, s, s] to those of the picture [N, K, H, W]."""
        if self.padded:  # by way of the square, for a low-resolution mask may end within a cell of padding
            square = F.interpolate(logits, size=(self.side, self.side), mode="bilinear", align_corners=False)
            logits = square[..., : self.inner[0], : self.inner[1]]
        return F.interpolate(logits, size=self.outer, mode="bilinear", align_corners=False)
