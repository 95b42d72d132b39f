"""A trunk that sees for several heads at once.

Axis letters: B images, H x W pixels.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from vfmerge.adapter import Features


class SharedTrunk(nn.Module):
    """A trunk that several heads ask in turn: images that it saw last get the same features, without a second pass.

    Only in eval mode and where no gradient is wanted. One batch is remembered, until there is another or the weights
    change. The features are the same tensors for all who ask: no head may change them in place.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self._last: tuple[Tensor, list[object], Features] | None = None

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]."""
        last, self._last = self._last, None
        if torch.is_grad_enabled() or self.trunk.training:
            return self._see(images)
        conditions = self._conditions(images)
        if last is not None and last[1] == conditions and torch.equal(last[0], images):
            self._last = last
            return last[2]
        del last  # its features make room for the new ones
        features = self._see(images)
        self._last = images.clone(), conditions, features  # a copy: whoever owns the images may write to them
        return features

    def _see(self, images: Tensor) -> Features:
        features = self.trunk(images)
        assert isinstance(features, Features)
        return features

    def _conditions(self, images: Tensor) -> list[object]:
        """All that features depend on but for the images' values; weights by where they are and how often changed."""
        tensors = itertools.chain(self.trunk.parameters(), self.trunk.buffers())
        weights = [(each.data_ptr(), None if each.is_inference() else each._version) for each in tensors]
        kind = images.device.type
        cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return [images.shape, images.dtype, images.device, cast, torch.is_inference_mode_enabled(), *weights]
