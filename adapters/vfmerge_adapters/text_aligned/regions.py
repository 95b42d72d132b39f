"""Regions of a picture, as heads that are text-aligned take them: boxes and masks of the input, and means under masks.

Axis letters: B images, C channels, D embedding width, h x w cells, s side of low-resolution masks, M regions of all
images together, H x W pixels of a picture or of the input that it is stretched to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .aligned import TextAligned

_COARSER = 4  # pixels a side of a low-resolution mask's cell, as SAM's masks have them


def mean_under(x: Tensor, masks: Tensor, owner: Tensor) -> Tensor:
    """Means of maps [B, C, h, w] under masks of them, logits [M, s, s]: [M, C]. owner: int64 [M], the map of each.

    A mask is brought bilinearly to the map, and is where it exceeds 0 there; one that is nowhere gives the mean of the
    whole map. So does Open-Vocabulary SAM's code (arXiv 2401.02955) pool a ConvNeXt.
    """
    small = F.interpolate(masks[:, None].float(), size=x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    inside = (small > 0).flatten(1)  # [M, h w]
    shares = (inside | ~inside.any(1, keepdim=True)).to(x)
    shares = shares / shares.sum(1, keepdim=True)
    every = torch.einsum("mn,bcn->mbc", shares, x.flatten(2))
    return every[torch.arange(owner.shape[0], device=owner.device), owner]


def embed_regions(head: TextAligned, trunk: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """Embeddings [M, D], not normalised, of what lies under masks, bool [M, H, W], of a picture of H x W pixels.

    images: that picture, stretched to the input [1, 3, H', W']. A mask without a pixel is of the whole picture.
    """
    masks = masks.to(images.device)
    frame = images.shape[-2], images.shape[-1]
    low = max(frame[0] // _COARSER, 1), max(frame[1] // _COARSER, 1)
    logits = F.interpolate(masks[:, None].float(), size=low, mode="bilinear", antialias=True)[:, 0] - 0.5
    owner = torch.zeros(len(masks), dtype=torch.long, device=images.device)
    seen = head.see(trunk, images)
    return head.regions(seen, boxes=_boxes(masks, frame), masks=logits, owner=owner, frame=frame)


def _boxes(masks: Tensor, frame: tuple[int, int]) -> Tensor:
    """Tight boxes of masks, bool [M, H, W], in a picture stretched to `frame`: float [M, 4], x0, y0, x1, y1."""
    filled = masks | ~masks.flatten(1).any(1)[:, None, None]
    sides = []
    for axis, pixels in ((1, frame[1]), (2, frame[0])):  # columns, then rows
        there = filled.any(axis).int()  # [M, W], then [M, H]
        first, last = there.argmax(1), there.shape[1] - there.flip(1).argmax(1)
        sides.append(torch.stack([first, last], dim=1) * (pixels / there.shape[1]))
    (left, right), (top, bottom) = (side.unbind(1) for side in sides)
    return torch.stack([left, top, right, bottom], dim=1).float()
