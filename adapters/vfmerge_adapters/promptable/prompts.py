"""Prompts simulated from masks, as SAM's training did (arXiv 2304.02643, appendix A).

A box or a point with equal chance; each box coordinate is moved by normal noise of a tenth of the box's side, at most
20 pixels of a 1024-pixel image; the point is uniform over the mask. Every draw is a function of a given key.

Axis letters: M masks of all images together, H x W pixels of a mask.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_NOISE = 0.10  # of the box's side, one standard deviation
_LARGEST_NOISE = 20 / 1024  # of the image's side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts:
    """M prompts of several images.

    owner: int64 [M], which image each belongs to.
    coords: float [M, n, 2], x and y in pixels of the input image.
    labels: int64 [M, n]: 1 a point inside, 0 outside, 2 and 3 a box's corners, -1 padding.
    masks: float [M, 1, 4h, 4w], logits of an earlier mask, or none.
    alike: whether they are known to be such as `alike` gives, so that a decoder need not look, which a graph cannot.
    """

    owner: Tensor
    coords: Tensor
    labels: Tensor
    masks: Tensor | None = None
    alike: bool = False


def alike(prompts: Prompts) -> list[tuple[Tensor, Prompts]]:
    """Rows of prompts that have as many points, int64 [m], and these prompts, for each number of points.

    All points of a row are followed by one that is none, as SAM 2's are; where there are no points, by two.
    """
    counts = (prompts.labels >= 0).sum(1)
    found = []
    for real in counts.unique().tolist():
        rows, ends = (counts == real).nonzero().squeeze(1), 1 if real else 2
        part = dataclasses.replace(
            prompts,
            owner=prompts.owner[rows],
            coords=F.pad(prompts.coords[rows, :real], (0, 0, 0, ends)),
            labels=F.pad(prompts.labels[rows, :real], (0, ends), value=-1),
            masks=None if prompts.masks is None else prompts.masks[rows],
            alike=True,
        )
        found.append((rows, part))
    return found


def boxes_of(masks: Tensor) -> Tensor:
    """Tight boxes of bool masks [M, H, W], as x0, y0, x1, y1 in pixels, the far edges inclusive: float [M, 4]."""
    rows, columns = masks.any(2).int(), masks.any(1).int()  # [M, H], [M, W]
    height, width = masks.shape[1:]
    first = torch.stack([columns.argmax(1), rows.argmax(1)], dim=1)
    last = torch.stack([width - 1 - columns.flip(1).argmax(1), height - 1 - rows.flip(1).argmax(1)], dim=1)
    return torch.cat([first, last], dim=1).float()


def points_in(masks: Tensor, chance: Tensor) -> Tensor:
    """The pixel of each bool mask [M, H, W] that lies at quantile chance [M] in [0, 1): x, y as float [M, 2]."""
    flat = masks.flatten(1)
    area = flat.sum(1)
    rank = (chance.to(area.device) * area).long().clamp(max=area - 1)
    index = (flat.cumsum(1) == (rank + 1).unsqueeze(1)).int().argmax(1)
    return torch.stack([index % masks.shape[2], index // masks.shape[2]], dim=1).float()


def simulate(masks: Tensor, *, owner: Tensor, keys: Sequence[int], frame: tuple[int, int]) -> Prompts:
    """One box or point prompt a mask.

    masks: bool [M, H, W], each with at least one pixel. owner: int64 [M]. keys: an integer per image that fixes its
    draws. frame: height and width in pixels of the input images, to which the masks are scaled.
    """
    draws = torch.from_numpy(_draw(owner.tolist(), keys)).to(masks.device)  # [M, 6]
    scale = torch.tensor([frame[1] / masks.shape[2], frame[0] / masks.shape[1]], device=masks.device)
    boxes = boxes_of(masks)
    sides = (boxes[:, 2:] - boxes[:, :2] + 1) * scale
    largest = _LARGEST_NOISE * max(frame)
    noise = (draws[:, :4] * _NOISE * sides.repeat(1, 2)).clamp(-largest, largest)
    corners = to_frame(boxes.unflatten(1, (2, 2)), scale, ends=True) + noise.unflatten(1, (2, 2))
    limit = torch.tensor([frame[1], frame[0]], device=masks.device) - 1.0
    corners = torch.minimum(corners.clamp(min=0), limit)
    points = to_frame(points_in(masks, draws[:, 4]).unsqueeze(1), scale, ends=False)
    points = torch.cat([points, torch.zeros_like(points)], dim=1)  # a lone point needs a padding token beside it
    boxed = draws[:, 5] < 0.5
    coords = torch.where(boxed[:, None, None], corners, points)
    labels = torch.where(
        boxed[:, None], torch.tensor([2, 3], device=masks.device), torch.tensor([1, -1], device=masks.device)
    )
    return Prompts(owner=owner, coords=coords, labels=labels)


def to_frame(pixels: Tensor, scale: Tensor, *, ends: bool) -> Tensor:
    """Pixel indices [..., n, 2] of a mask to the input image's, pixel centres to centres, or outer edges for boxes."""
    if not ends:
        return (pixels + 0.5) * scale - 0.5
    edge = torch.tensor([[0.0], [1.0]], device=pixels.device)  # near edges, then far ones
    return (pixels + edge) * scale - edge


def _draw(owner: list[int], keys: Sequence[int]) -> np.ndarray:
    """Per mask: four normal numbers for the box, two uniform ones for the point and the choice. float32 [M, 6]."""
    random = {image: np.random.Generator(np.random.Philox(key=keys[image])) for image in set(owner)}
    rows = [np.concatenate([random[i].standard_normal(4), random[i].random(2)]) for i in owner]
    return np.array(rows, dtype=np.float32).reshape(-1, 6)
