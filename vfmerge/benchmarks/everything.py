"""Masks of everything in a picture, from a grid of points: Segment Anything, arXiv 2304.02643, appendix B.

Numbers and order of steps are those of `SamAutomaticMaskGenerator` without crops and without the removal of small
regions, which are off there by default.

Axis letters: H x W pixels, N masks, P points, K masks a point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .prompts import tight_boxes

if TYPE_CHECKING:
    from torch import Tensor

    from vfmerge.capability import Promptable, PromptableImage

_OFFSET = 1.0  # a mask is stable if it changes little where its threshold, 0, is so much higher or lower
_POINTS, _PIXELS = 64, 2**24  # at most so many points, and pixels of logits, are decoded at once


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """Masks of one picture, the one believed in most first, kept as bits: there may be hundreds.

    boxes: float32 [N, 4], x0, y0, x1, y1, far pixels inclusive. scores: float32 [N], the believed IoU.
    """

    frame: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    bits: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each mask: int64 [N]."""
        return np.asarray(np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64))

    def __getitem__(self, number: int) -> np.ndarray:
        """Mask `number`: bool [H, W]."""
        height, width = self.frame
        return np.unpackbits(self.bits[number], count=height * width).reshape(self.frame).astype(bool)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everything:
    """How everything is looked for.

    grid: points a side. iou: the least IoU that the model must believe its mask has. stability: the least IoU of the
    mask with a higher and with a lower threshold. overlap: the IoU of boxes above which the lesser mask is dropped.
    """

    grid: int = 32
    iou: float = 0.88
    stability: float = 0.95
    overlap: float = 0.7

    def find(self, promptable: Promptable, picture: np.ndarray) -> Masks:
        """Masks of a picture [H, W, 3]; there may be none."""
        return self.find_in(promptable.set_image(picture), (picture.shape[0], picture.shape[1]))

    def find_in(self, image: PromptableImage, frame: tuple[int, int]) -> Masks:
        """The same of an encoded picture, whose prompts and masks are of H, W pixels."""
        found = [self._keep(*answer) for answer in _ask(image, grid_points(self.grid, frame), frame)]
        boxes, scores, bits = (np.concatenate(column) for column in zip(*found, strict=True))
        chosen = suppress(boxes, scores, overlap=self.overlap)
        return Masks(frame=frame, boxes=boxes[chosen], scores=scores[chosen], bits=bits[chosen])

    def _keep(self, logits: Tensor, scores: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of masks [N, H, W] with their scores [N], those that are good: boxes, scores and bits."""
        sure = scores > self.iou
        logits, scores = logits[sure], scores[sure]
        stable = _stability(logits) >= self.stability
        masks = (logits[stable] > 0).cpu().numpy()
        bits = np.packbits(masks.reshape(len(masks), masks.shape[1] * masks.shape[2]), axis=1)
        return tight_boxes(masks), scores[stable].float().cpu().numpy(), bits


def grid_points(side: int, frame: tuple[int, int]) -> np.ndarray:
    """The middles of `side` x `side` equal parts of a picture, as pixels x, y: float32 [P, 2]."""
    middles = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(middles * frame[0], middles * frame[1], indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def _ask(image: PromptableImage, points: np.ndarray, frame: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits [N, H, W] and scores [N] of the three masks of each point, some points at a time."""
    import torch

    size = max(1, min(_POINTS, _PIXELS // (3 * frame[0] * frame[1])))
    for some in torch.split(torch.from_numpy(points).unsqueeze(1), size):  # [P, 1, 2]
        logits, scores = image.predict(points=some, labels=torch.ones(len(some), 1, dtype=torch.long), multimask=True)
        yield logits.flatten(0, 1), scores.flatten()


def _stability(logits: Tensor) -> Tensor:
    """IoU of each mask [N, H, W] at a higher with itself at a lower threshold: [N], nan for one that is nowhere."""
    inner, outer = ((logits > threshold).sum((1, 2)) for threshold in (_OFFSET, -_OFFSET))
    return inner / outer


def suppress(boxes: np.ndarray, scores: np.ndarray, *, overlap: float) -> np.ndarray:
    """Numbers of boxes [N, 4] that no box of higher score overlaps by an IoU above `overlap`, highest score first."""
    order = np.argsort(-scores, kind="stable")
    left = np.ones(len(boxes), dtype=bool)
    chosen = []
    for number in order:
        if left[number]:
            chosen.append(number)
            left &= ~(_box_iou(boxes[number], boxes) > overlap)  # of two boxes without an area it is nan
    return np.array(chosen, dtype=np.int64)


def _box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of one box [4] with others [N, 4]: [N]."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    both = sides.clip(0).prod(1)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (box, boxes)]
    with np.errstate(invalid="ignore"):
        return np.asarray(both / (areas[0] + areas[1] - both))
