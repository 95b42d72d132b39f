"""Grids of cells: a trunk's and a parent's differ where their strides or their sizes do.

Axis letters: B images, C channels, h x w cells.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def match(answer: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps [B, C, h, w] of the same pictures on the coarser of their two grids: what neither has is not learnt.

    AM-RADIO interpolates too (arXiv 2312.06709); which of the two it leaves open: the finer (chosen here).
    """
    h, w = (min(pair) for pair in zip(answer.shape[-2:], target.shape[-2:], strict=True))
    return resize(answer, h, w), resize(target, h, w)


def resize(maps: Tensor, h: int, w: int) -> Tensor:
    """Maps [B, C, ...] at h x w cells."""
    if maps.shape[-2:] == (h, w):
        return maps
    fitted = F.interpolate(maps.float(), size=(h, w), mode="bilinear", antialias=True, align_corners=False)
    return fitted.to(maps.dtype)  # torch has no antialiasing of bf16 on a CPU
