"""What a person does with a promptable model: points, boxes and rough masks to masks; for parent and merged alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vfmerge.capability import Promptable, PromptableImage

from .head import PromptedHead
from .placement import Colour, Placement, Resize, place

if TYPE_CHECKING:
    import numpy as np

    from vfmerge.model import Network


class Segmenter(Promptable):
    """A promptable segmenter at one input size, its head's side.

    padding: of the square; none for a model whose pictures are stretched. resize: the library's way.
    """

    def __init__(self, network: Network, *, padding: Colour | None, resize: Resize) -> None:
        assert isinstance(network.head, PromptedHead)
        super().__init__(network)
        self._padding, self._resize = padding, resize
        self.fixed_size = network.head.side

    @torch.no_grad()
    def set_image(self, picture: np.ndarray) -> SegmenterImage:
        head = self.network.head
        device = next(self.network.parameters()).device
        square, placement = place(picture, side=head.side, padding=self._padding, resize=self._resize, device=device)
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
        prompts = self._placement.prompts(
            boxes=boxes, points=points, labels=labels, masks=masks, device=self._maps[-1].device
        )
        logits, ious = self._head.decode(self._maps, prompts, (self._placement.side, self._placement.side))
        logits, ious = (logits[:, 1:], ious[:, 1:]) if multimask else self._head.single(logits, ious)
        return self._placement.outward(logits), ious
