"""Networks: one trunk with one head is a parent; one trunk with many heads is the merged model.

Axis letters: B images, H x W pixels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vfmerge.adapter import Batch, Features


class Network(nn.Module):
    """One trunk and one head: a parent as a whole, or one task of a merged model. Batch -> answer."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def encode(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]."""
        features = self.trunk(images)
        assert isinstance(features, Features)
        return features

    def forward(self, batch: Batch) -> Any:
        return self.head(self.encode(batch.images), batch)
