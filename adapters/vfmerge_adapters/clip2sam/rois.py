"""Regions of maps: what lies in a box, as a small square of cells.

A box is x0, y0, x1, y1 in pixels of the input images, along the outer edges of its pixels: a whole image is 0, 0, W, H.
Nothing is there outside of a map, and a box without area holds nothing: both read zeros.

Axis letters: B images, C channels, h x w cells, M boxes of all images together, s cells of a region's side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align


def crop(cells: Tensor, boxes: Tensor, owner: Tensor, *, stride: int, side: int) -> Tensor:
    """The regions [M, C, s, s] of a map [B, C, h, w] in boxes [M, 4] of the images owner [M], in the map's dtype.

    RoIAlign (Mask R-CNN, arXiv 1703.06870, section 3): each of the s x s bins is the mean of bilinear samples, at least
    one a cell in either direction, so that time grows with a box's area, be it inside of the map or outside.

    stride: pixels a cell.
    """
    wide = cells.to(torch.promote_types(cells.dtype, torch.float32))  # torchvision has no bf16 on a CPU
    near, far = boxes.to(wide.dtype).split(2, dim=1)  # [M, 2] each
    far = far.maximum(near)  # torchvision fails at a box of negative size, and gives zeros for one without
    regions = torch.cat([owner.to(wide.dtype).unsqueeze(1), near, far], dim=1)  # [M, 5]
    found = roi_align(wide, regions, output_size=side, spatial_scale=1 / stride, sampling_ratio=0, aligned=True)
    return found.to(cells.dtype)


def align(
    maps: Sequence[Tensor], boxes: Tensor, owner: Tensor, *, strides: Sequence[int], side: int = 12, finest: float = 56
) -> Tensor:
    """The regions [M, C, s, s] of boxes [M, 4] of the images owner [M], each from the one map that suits its size.

    maps: [B, C, h, w] each, finest first. strides: pixels a cell of each. finest: side in pixels of a box; those under
    twice as much are read from the finest map, those under four times from the next. 12 and 56 are those of
    Open-Vocabulary SAM's published code.
    """
    levels = _levels(boxes, count=len(maps), finest=finest)
    found = maps[0].new_zeros(boxes.shape[0], maps[0].shape[1], side, side)
    for level, (cells, stride) in enumerate(zip(maps, strides, strict=True)):
        mine = (levels == level).nonzero()[:, 0]
        part = crop(cells, boxes[mine], owner[mine], stride=stride, side=side)
        found = found.index_copy(0, mine, part)  # of no box too, so that all maps have gradients
    return found


def _levels(boxes: Tensor, *, count: int, finest: float) -> Tensor:
    """Which of the maps each box [M, 4] is read from: int64 [M]. FPN, arXiv 1612.03144, equation 1.

    Its k0 - log2(224) is -log2(finest) here, for levels that are counted from 0.
    """
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()
    level = (size / finest + 1e-6).log2().floor()  # 1e-6 as in the published code: for sizes that are rounded down
    return level.clamp(0, count - 1).long()
