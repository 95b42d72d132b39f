"""An image encoder of `transformers` as a trunk.

Axis letters: B images, C channels, h x w cells, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.errors import InputError

from ..hub.preprocess import Preprocess


class Trunk(nn.Module):
    """The library's model, with its normalisation; it has the library's names below `model`.

    stride: what sides are multiples of, but for those of the model's own square.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        see: Callable[[Any, Tensor], Features],
        stride: int,
        own: int,
        preprocess: Preprocess,
    ) -> None:
        """see: as in `Family`. own: side of the square that the model was made for."""
        super().__init__()
        self.model = model
        self.stride = stride
        self._see, self._own = see, own
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. Raises InputError unless cells fill H and W."""
        return self._see(self.model, self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """What the model is shown of images in [0, 1]. Raises InputError as `forward` does."""
        height, width = images.shape[-2:]
        if (height % self.stride or width % self.stride) and (height, width) != (self._own, self._own):
            text = f"size: {height} x {width} is no multiple of the trunk's {self.stride} pixels a cell; mend it"
            raise InputError(text)  # the edge would not be seen
        return (images - self.mean) / self.std
