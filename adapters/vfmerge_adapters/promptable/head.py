"""A promptable parent's head, as its capability and its rehearsal know it.

Axis letters: B images, C channels, h x w cells, M prompts of all images together, K masks a prompt.
"""

from __future__ import annotations

import abc

from torch import Tensor, nn

from vfmerge.adapter import Batch, Features

from .prompts import Prompts, simulate


class PromptedHead(nn.Module, abc.ABC):
    """A neck, a prompt encoder and a mask decoder, which decodes the prompts of many images at once.

    side: pixels of the square at which it looks at a picture.
    alike: whether it decodes only such prompts together as `prompts.alike` gives; `decode` takes any, and parts them.
    """

    alike = False

    def __init__(self, *, side: int) -> None:
        super().__init__()
        self.side = side

    def respond(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        """Answers to one simulated prompt per mask of the batch, as `decode` gives them."""
        assert batch.masks is not None
        assert batch.owner is not None
        frame = (batch.images.shape[-2], batch.images.shape[-1])
        prompts = simulate(batch.masks, owner=batch.owner, keys=batch.keys, frame=frame)
        return self.decode(self.embed(features), prompts, frame)

    @abc.abstractmethod
    def embed(self, features: Features) -> tuple[Tensor, ...]:
        """The maps [B, C, h, w] that masks are decoded from, finest first; the last is what prompts attend to."""

    @abc.abstractmethod
    def decode(self, maps: tuple[Tensor, ...], prompts: Prompts, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """All outputs for prompts on several images, whose pixels are those of images of `frame`'s height and width.

        Returns mask logits [M, K, 4h, 4w] (the single mask first, then those of an ambiguous prompt) and IoU scores
        [M, K], for h x w cells of the last map.
        """

    @abc.abstractmethod
    def single(self, logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
        """Of all outputs [M, K, ...] the mask and score [M, 1, ...] of prompts that are not ambiguous."""
