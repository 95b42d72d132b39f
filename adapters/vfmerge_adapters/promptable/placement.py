"""Where a picture lies in its model's input square.

How a picture is resized is its library's own, so that masks equal the library's.

Axis letters: N prompts, P points a prompt, K masks a prompt, H x W pixels of the picture, S side of the input square.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vfmerge.errors import InputError

from .prompts import Prompts

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Resize = Callable[["np.ndarray", tuple[int, int]], "Tensor"]
"""A picture, uint8 [H, W, 3], at another height and width: uint8 [3, h, w]."""
Colour = tuple[float, float, float]
"""Of what is left of the square beside a picture that keeps its shape; in 0..1."""


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
        return max(int(self.outer[0] * scale + 0.5), 1), max(int(self.outer[1] * scale + 0.5), 1)

    def inward(self, places: Tensor) -> Tensor:
        """Pixels of the picture [..., 2], x and y, to those of the square."""
        ratio = [self.inner[1] / self.outer[1], self.inner[0] / self.outer[0]]
        return (places.double() * torch.tensor(ratio, dtype=torch.double, device=places.device)).float()

    def prompts(
        self,
        *,
        boxes: Tensor | None,
        points: Tensor | None,
        labels: Tensor | None,
        masks: Tensor | None,
        device: torch.device,
    ) -> Prompts:
        """Prompts of pixels of the picture, as in `PromptableImage.predict`, in pixels of the square, on a device.

        Raises InputError where there are none, or points without labels.
        """
        given = [each for each in (boxes, points, masks) if each is not None]
        if not given or (points is None) != (labels is None):
            lacks = "no prompt" if not given else "points without labels, or labels without points"
            raise InputError(f"predict: {lacks}; give boxes, points with their labels, or masks")
        count = len(given[0])
        coords, kinds = torch.zeros(count, 0, 2, device=device), torch.zeros(count, 0, dtype=torch.long, device=device)
        if points is not None and labels is not None:
            coords = torch.cat([coords, self.inward(points.to(device))], dim=1)
            kinds = torch.cat([kinds, labels.to(device).long()], dim=1)
            if boxes is None:  # lone points have one beside them that is none
                coords, kinds = F.pad(coords, (0, 0, 0, 1)), F.pad(kinds, (0, 1), value=-1)
        if boxes is not None:
            coords = torch.cat([coords, self.inward(boxes.to(device).reshape(-1, 2, 2))], dim=1)
            kinds = torch.cat([kinds, torch.tensor([2, 3], device=device).expand(count, 2)], dim=1)
        owner = torch.zeros(count, dtype=torch.long, device=device)
        return Prompts(owner=owner, coords=coords, labels=kinds, masks=None if masks is None else masks.to(device))

    def outward(self, logits: Tensor) -> Tensor:
        """Mask logits of the square [N, K, s, s] to those of the picture [N, K, H, W]."""
        if self.padded:  # by way of the square, for a low-resolution mask may end within a cell of padding
            square = F.interpolate(logits, size=(self.side, self.side), mode="bilinear", align_corners=False)
            logits = square[..., : self.inner[0], : self.inner[1]]
        return F.interpolate(logits, size=self.outer, mode="bilinear", align_corners=False)


def place(
    picture: np.ndarray, *, side: int, padding: Colour | None, resize: Resize, device: torch.device
) -> tuple[Tensor, Placement]:
    """A picture in its square, [1, 3, S, S] in [0, 1], and where it lies there.

    padding: none stretches the picture to fill the square.
    """
    placement = Placement(side=side, outer=picture.shape[:2], padded=padding is not None)
    small = resize(picture, placement.inner).to(device).float() / 255
    return fill(small[None], placement, padding=padding or (0.0, 0.0, 0.0)), placement


def fill(small: Tensor, placement: Placement, *, padding: Colour) -> Tensor:
    """Pictures [1, 3, h, w] in [0, 1] of a placement's inner size, in their square: [1, 3, S, S]."""
    square = torch.tensor(padding, device=small.device).view(1, 3, 1, 1)
    square = square.expand(1, 3, placement.side, placement.side).clone()
    square[..., : placement.inner[0], : placement.inner[1]] = small
    return square
