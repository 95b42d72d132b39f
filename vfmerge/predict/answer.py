"""What is answered about a picture.

Axis letters: H x W pixels, N masks.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vfmerge.benchmarks.everything import Masks
from vfmerge.candidates import NOTHING


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What was found in a picture.

    masks: N times bool [H, W]. scores: float [N], in 0..1: how sure the name is, or without names the mask.
    classes: int64 [N], the number of each mask's name; none without names. ious: float [N], how good the model thinks
    each mask is, in 0..1; none where names were looked for. regions: int [H, W], the number of a name for each pixel,
    or without names of a mask, -1 for none.
    """

    masks: np.ndarray | Masks
    scores: np.ndarray
    classes: np.ndarray | None
    ious: np.ndarray | None
    regions: np.ndarray


def unnamed(masks: np.ndarray | Masks, *, ious: np.ndarray) -> Answer:
    """Masks, N times bool [H, W], and how good they are [N]; their regions are numbered as they are."""
    regions = paint(masks, np.arange(len(masks)))
    return Answer(masks=masks, scores=ious, classes=None, ious=ious, regions=regions)


def named(masks: np.ndarray | Masks, *, ious: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> Answer:
    """Masks, N times bool [H, W], how good they are [N], the number of each one's name [N] and how sure that is [N]."""
    return Answer(masks=masks, scores=scores, classes=classes, ious=ious, regions=paint(masks, classes))


def paint(masks: np.ndarray | Masks, numbers: np.ndarray) -> np.ndarray:
    """Masks, N times bool [H, W], in one map of their numbers [N], int32 [H, W]: the smaller lie over the larger."""
    if isinstance(masks, Masks):
        frame, areas = masks.frame, masks.areas
    else:
        frame, areas = (masks.shape[1], masks.shape[2]), masks.sum(axis=(1, 2))
    regions = np.full(frame, NOTHING, dtype=np.int32)
    for number in np.argsort(-areas, kind="stable"):
        np.copyto(regions, numbers[number], where=masks[number], casting="same_kind")
    return regions
