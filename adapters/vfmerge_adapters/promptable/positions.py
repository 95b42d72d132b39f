"""Positions as SAMs embed them: of a trunk at sizes that it was not trained at, and of prompts.

Axis letters: C channels, h x w cells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def positions(embedding: Tensor, h: int, w: int) -> Tensor:
    """The embedding [1, ..., ..., C] at h x w cells; the original itself at the original size."""
    if embedding.shape[1:3] == (h, w):
        return embedding
    grid = embedding.permute(0, 3, 1, 2)
    return F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


def locate(matrix: Tensor, places: Tensor) -> Tensor:
    """Fourier features [..., C] of places [..., 2], x and y in 0..1 (SAM, arXiv 2304.02643, appendix A).

    matrix: [2, C / 2], whose type is theirs too; but computed in half precision, eight bits are four pixels of 1024.
    """
    with torch.autocast(places.device.type, enabled=False):
        angles = 2 * math.pi * ((2 * places - 1) @ matrix.float())
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(matrix.dtype)


def centres(h: int, w: int, *, device: torch.device) -> Tensor:
    """Where the centres of h x w cells are, x and y in 0..1: [h, w, 2]."""
    y = (torch.arange(h, device=device) + 0.5) / h
    x = (torch.arange(w, device=device) + 0.5) / w
    return torch.stack([x.expand(h, w), y.unsqueeze(1).expand(h, w)], dim=-1)
