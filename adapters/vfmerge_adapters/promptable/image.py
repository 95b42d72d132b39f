"""An encoded picture that waits for prompts.

Axis letters: N prompts, P points a prompt, K masks a prompt, H x W pixels of the picture, s side of low-resolution
masks.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vfmerge.capability import PromptableImage

from .head import PromptedHead
from .placement import Placement


class SegmenterImage(PromptableImage):
    """An encoded picture. maps: what the head decodes from. placement: where the picture lies in the input square."""

    def __init__(self, head: PromptedHead, maps: tuple[Tensor, ...], *, placement: Placement) -> None:
        self.maps, self.placement = maps, placement
        self._head = head
        self.mask_side = 4 * maps[-1].shape[-1]

    def predict(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        low, ious = self.decode(boxes=boxes, points=points, labels=labels, masks=masks, multimask=multimask)
        return self.outward(low), ious

    @torch.no_grad()
    def decode(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
        placed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits [N, K, s, s] over the padded input square, and IoU scores [N, K]; else as `predict`.

        placed: whether points and boxes are in pixels of the input square already.
        """
        placement = self.placement
        if placed:
            placement = dataclasses.replace(placement, outer=placement.inner)
        prompts = placement.prompts(boxes=boxes, points=points, labels=labels, masks=masks, device=self.maps[-1].device)
        logits, ious = self._head.decode(self.maps, prompts, (placement.side, placement.side))
        logits, ious = (logits[:, 1:], ious[:, 1:]) if multimask else self._head.single(logits, ious)
        return logits.float(), ious.float()

    def outward(self, low: Tensor) -> Tensor:
        """Low-resolution logits [N, K, s, s] at the picture's own size, [N, K, H, W]."""
        return self.placement.outward(low)
