"""What a recogniser's graphs are asked when they are proved: a box and a point in each picture.

Axis letters: H x W pixels of a picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..clip2sam.use import edges_in
from ..promptable.placement import Placement

if TYPE_CHECKING:
    import numpy as np

_BOX = (0.2, 0.25, 0.7, 0.8)  # in widths and heights of a picture
_POINT = (0.5, 0.5)
_KINDS: tuple[Literal["box", "point"], ...] = ("box", "point")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A box or a point in a picture, the image of that number."""

    image: int
    kind: Literal["box", "point"]
    placement: Placement

    def __str__(self) -> str:
        return f"a {self.kind} in picture {self.image}"

    @property
    def given(self) -> dict[str, Tensor]:
        """As `RecognisedImage.recognise` takes it."""
        height, width = self.placement.outer
        if self.kind == "box":
            return {"boxes": torch.tensor([_BOX]) * torch.tensor([width, height, width, height])}
        return {"points": torch.tensor([[_POINT]]) * torch.tensor([width, height]), "labels": torch.tensor([[1]])}

    def tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates [1, 2, 2], labels [1, 2] and owner [1], as the decoder takes them."""
        unsaid = dict.fromkeys(("boxes", "points", "labels", "masks"))
        found = self.placement.prompts(**unsaid | self.given, device=torch.device("cpu"))
        return found.coords, found.labels, found.owner + self.image

    def edges(self, found: Tensor) -> Tensor:
        """The region [1, 4] that is named. found: that of the mask."""
        return edges_in(self.placement, self.given["boxes"]) if self.kind == "box" else found


def asked_of(pictures: Sequence[np.ndarray], *, side: int) -> list[Asked]:
    """Prompts of pictures, uint8 [H, W, 3], that lie in an input of `side` pixels as SAM's do."""
    placements = [Placement(side=side, outer=picture.shape[:2], padded=True) for picture in pictures]
    return [
        Asked(image=image, kind=kind, placement=placement)
        for image, placement in enumerate(placements)
        for kind in _KINDS
    ]
