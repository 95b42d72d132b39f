"""Heads whose embeddings lie in the space of texts: a parent's own, and what learns it on another trunk.

Axis letters: B images, H x W pixels, h x w cells, D embedding width, M regions of all images together, s side of
low-resolution masks.
"""

from __future__ import annotations

import abc

from torch import Tensor, nn

from vfmerge.adapter import Batch, Features


class TextAligned(nn.Module, abc.ABC):
    """A head that gives embeddings in the space of texts, and keeps the text tower that made that space.

    text: the frozen text tower.
    size: default height and width of an input in pixels. stride: what others are multiples of.
    fixed_size: side of the only square that the trunk takes, or none.
    embedding: D.
    """

    def __init__(
        self, text: nn.Module, *, embedding: int, size: tuple[int, int], stride: int, fixed_size: int | None = None
    ) -> None:
        super().__init__()
        self.text = text
        self.embedding = embedding
        self.size = size
        self.stride = stride
        self.fixed_size = fixed_size

    def train(self, mode: bool = True) -> TextAligned:
        """As usual, but for the text tower, which stays in eval mode."""
        super().train(mode)
        self.text.eval()
        return self

    def forward(self, features: Features, batch: Batch) -> Tensor:
        """Embeddings of the images [B, D], not normalised."""
        return self.embed(features)

    @abc.abstractmethod
    def embed(self, features: Features) -> Tensor:
        """Embeddings of the images [B, D], not normalised."""

    @abc.abstractmethod
    def start(self, trunk: nn.Module, parent: TextAligned) -> None:
        """Take the first weights, in place, from the parent's head and the trunk that this one will sit on."""

    @property
    @abc.abstractmethod
    def regional(self) -> bool:
        """Whether there are `regions`: not where cells go another way through the trunk than the whole image does."""

    @abc.abstractmethod
    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        """Embeddings [M, D], not normalised, of regions of images whose features are given; one look serves them all.

        boxes: float [M, 4], x0, y0, x1, y1 in pixels of the input, far edges exclusive. masks: logits [M, s, s] over
        the whole input; a mask is where they exceed 0. owner: int64 [M], the image of each. frame: H, W of the input.
        A head reads the boxes or the masks, whichever suits it. Raises InputError where there are no `regions`.
        """

    @abc.abstractmethod
    def see(self, trunk: nn.Module, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. What the trunk sees in them, at the nearest size that it takes."""

    @abc.abstractmethod
    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. All that the trunk can give, at their own size."""

    @abc.abstractmethod
    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [0, 1]. Embeddings of their cells [B, D, h, w], not normalised."""
