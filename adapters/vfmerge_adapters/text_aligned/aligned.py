"""Heads whose embeddings lie in the space of texts: a parent's own, and what learns it on another trunk.

Axis letters: B images, H x W pixels, h x w cells, D embedding width.
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
    """

    def __init__(self, text: nn.Module, *, size: tuple[int, int], stride: int, fixed_size: int | None = None) -> None:
        super().__init__()
        self.text = text
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

    @abc.abstractmethod
    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. All that the trunk can give, at their own size."""

    @abc.abstractmethod
    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [0, 1]. Embeddings of their cells [B, D, h, w], not normalised."""
