"""A CLIP's own head on a trunk of open_clip.

Axis letters: B images, H x W pixels, h x w cells, S summary width.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..text_aligned.own import ProjectionHead, within
from .trunk import Trunk


class OwnHead(ProjectionHead):
    """Features of its own trunk -> open_clip's own embeddings. The trunk knows how it sees cells, and at which size."""

    def fit(self, trunk: nn.Module, images: Tensor) -> Tensor:
        return within(trunk, Trunk).fit(images)

    def alone(self, trunk: nn.Module, images: Tensor) -> Tensor:
        return within(trunk, Trunk).alone(images)
