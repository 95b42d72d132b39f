"""What a person does with a promptable model: points, boxes and rough masks to masks; for parent and merged alike.

How a picture is resized is its library's own, so that masks equal the library's.

Axis letters: N prompts, P points a prompt, K masks a prompt, H x W pixels of the picture, S side of the input square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vfmerge.capability import Promptable, PromptableImage

from .head import PromptedHead
from .placement import Placement
from .prompts import Prompts

if TYPE_CHECKING:
    import numpy as np

    from vfmerge.model import Network


Resize = Callable[["np.ndarray", tuple[int, int]], Tensor]
"""A picture, uint8 [H, W, 3], at another height and width: uint8 [3, h, w]."""


class Segmenter(Promptable):
    """A promptable segmenter at one input size, its head's side.

    padding: the colour, in 0..1, of what is left of the square beside a picture that keeps its shape; none for a model
    whose pictures are stretched. resize: the library's way.
    """

    def __init__(self, network: Network, *, padding: tuple[float, float, float] | None, resize: Resize) -> None:
        assert isinstance(network.head, PromptedHead)
        super().__init__(network)
        self._padding, self._resize = padding, resize
        self.fixed_size = network.head.side

    @torch.no_grad()
    def set_image(self, picture: np.ndarray) -> SegmenterImage:
        head = self.network.head
        placement = Placement(side=head.side, outer=picture.shape[:2], padded=self._padding is not None)
        device = next(self.network.parameters()).device
        small = self._resize(picture, placement.inner)
        square = torch.tensor(self._padding or (0.0, 0.0, 0.0), device=device).view(1, 3, 1, 1)
        square = square.expand(1, 3, head.side, head.side).clone()
        square[..., : placement.inner[0], : placement.inner[1]] = small.to(device).float() / 255
        return SegmenterImage(head, head.embed(self.network.encode(square)), placement=placement)


class SegmenterImage(PromptableImage):
    """An encoded picture. maps: what the head decodes from."""

    def __init__(self, head: PromptedHead, maps: tuple[Tensor, ...], *, placement: Placement) -> None:
        self._head, self._maps, self._placement = head, maps, placement
        self.mask_side = 4 * maps[-1].shape[-1]

    @torch.no_grad()
    def predict(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        prompts = self._prompts(boxes, points, labels, masks)
        logits, ious = self._head.decode(self._maps, prompts, (self._placement.side, self._placement.side))
        logits, ious = (logits[:, 1:], ious[:, 1:]) if multimask else self._head.single(logits, ious)
        return self._placement.outward(logits), ious

    def _prompts(
        self, boxes: Tensor | None, points: Tensor | None, labels: Tensor | None, masks: Tensor | None
    ) -> Prompts:
        given = [each for each in (boxes, points, masks) if each is not None]
        if not given or (points is None) != (labels is None):
            raise ValueError("give boxes, points with labels, or masks")
        count, device = len(given[0]), self._maps[-1].device
        coords, kinds = torch.zeros(count, 0, 2, device=device), torch.zeros(count, 0, dtype=torch.long, device=device)
        if points is not None and labels is not None:
            coords = torch.cat([coords, self._placement.inward(points.to(device))], dim=1)
            kinds = torch.cat([kinds, labels.to(device).long()], dim=1)
            if boxes is None:  # lone points have one beside them that is none
                coords, kinds = F.pad(coords, (0, 0, 0, 1)), F.pad(kinds, (0, 1), value=-1)
        if boxes is not None:
            coords = torch.cat([coords, self._placement.inward(boxes.to(device).reshape(-1, 2, 2))], dim=1)
            kinds = torch.cat([kinds, torch.tensor([2, 3], device=device).expand(count, 2)], dim=1)
        owner = torch.zeros(count, dtype=torch.long, device=device)
        return Prompts(owner=owner, coords=coords, labels=kinds, masks=None if masks is None else masks.to(device))
