"""Points of masks: a loss on so many of them costs less than one on all pixels, and can look where a mask is in doubt.

A place is x, y in 0..1 of a map's sides, from the outer edge of its first cell to that of its last, so that maps of one
picture at several resolutions are asked at the same places.

Axis letters: M masks, h x w cells of a map, N candidates, P points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfmerge import random

_STEPS = 2**16  # of a side, chosen here: far finer than a pixel, and drawn four times as fast as floats are


def sample(maps: Tensor, places: Tensor) -> Tensor:
    """What maps [M, h, w] are at places [M, P, 2], bilinear between the centres of cells, zero outside: [M, P].

    So a map fades in the outer half of its outermost cells, as in PointRend's own code. In float32 at least, bool maps
    as 0 and 1; gradients reach the maps.
    """
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))  # torch samples neither bool nor, everywhere, bf16
    grid = 2 * places.to(wide.dtype).unsqueeze(1) - 1  # [M, 1, P, 2], -1..1
    found = F.grid_sample(wide.unsqueeze(1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found[:, 0, 0]


@torch.no_grad()
def uncertain(logits: Tensor, *, count: int, oversample: float, importance: float, keys: Sequence[int]) -> Tensor:
    """Places where mask logits [M, h, w] are near 0, and some from everywhere: [M, count, 2] on the logits' device.

    PointRend's training (arXiv 1912.08193, section 3.1): of oversample * count uniform candidates the importance *
    count whose logits are nearest to 0, in the order in which they were drawn, then uniform ones for the rest.

    oversample: 1 or more. importance: share, in 0..1. keys: an integer a mask, which fixes all of its draws.
    """
    candidates, nearest = int(oversample * count), int(importance * count)
    assert len(keys) == len(logits)
    assert 0 <= nearest <= count <= candidates
    drawn = _draw(keys, count=candidates + count - nearest).to(logits.device)
    drawn = (drawn.float() + 0.5) / _STEPS + 0.5  # [M, N + P - nearest, 2], in the middle of a step
    places, rest = drawn[:, :candidates], drawn[:, candidates:]
    if not nearest:
        return rest
    doubt = sample(logits, places).abs().nan_to_num(nan=torch.inf)
    chosen = places[_smallest(doubt, nearest)].view(len(logits), nearest, 2)
    return torch.cat([chosen, rest], dim=1)


def _draw(keys: Sequence[int], *, count: int) -> Tensor:
    """Uniform whole numbers from -_STEPS / 2 up to _STEPS / 2, without it: int16 [M, count, 2], on the CPU."""
    half, shape = _STEPS // 2, (count, 2)
    drawn = [random.generator(key, "points").integers(-half, half, shape, dtype=np.int16) for key in keys]
    return torch.from_numpy(np.array(drawn, dtype=np.int16).reshape(-1, *shape))


def _smallest(values: Tensor, count: int) -> Tensor:
    """Which of values [M, N] are the count smallest of their row, of equal ones the first: bool [M, N].

    `topk` leaves open which of equal ones it takes, and does so differently from device to device.
    """
    limit = values.kthvalue(count, dim=1, keepdim=True).values
    below, level = values < limit, values == limit
    return below | (level & (level.cumsum(1) <= count - below.sum(1, keepdim=True)))
