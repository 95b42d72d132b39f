"""Position embeddings of a SAM's trunk at sizes that it was not trained at.

Axis letters: C channels, h x w cells.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def positions(embedding: Tensor, h: int, w: int) -> Tensor:
    """The embedding [1, ..., ..., C] at h x w cells; the original itself at the original size."""
    if embedding.shape[1:3] == (h, w):
        return embedding
    grid = embedding.permute(0, 3, 1, 2)
    return F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
