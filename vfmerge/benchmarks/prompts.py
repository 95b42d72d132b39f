"""Prompts that are taken from true masks, and what a promptable model answers to them.

Axis letters: N masks of a picture, P points a prompt, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vfmerge import random
from vfmerge.capability import PromptableImage

if TYPE_CHECKING:
    from torch import Tensor


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """Boxes of bool masks [N, H, W], each with a pixel: x0, y0, x1, y1, far pixels inclusive, float32 [N, 4]."""
    boxes = [(columns.min(), rows.min(), columns.max(), rows.max()) for rows, columns in map(np.nonzero, masks)]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def draw_points(masks: np.ndarray, name: str, *, points: int = 1) -> np.ndarray:
    """Pixels of bool masks [N, H, W], each with a pixel: float32 [N, P, 2], x and y; the same for every model.

    name: the picture's.
    """
    return np.stack([_draw(mask, name, number, points) for number, mask in enumerate(masks)])


def _draw(mask: np.ndarray, name: str, number: int, points: int) -> np.ndarray:
    rows, columns = mask.nonzero()
    chosen = random.generator("promptable", 0, name, number).integers(len(rows), size=points)
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float32)


def from_boxes(image: PromptableImage, boxes: np.ndarray) -> Tensor:
    """The single masks of boxes [N, 4]: logits [N, H, W]."""
    import torch

    return choose(image, boxes=torch.from_numpy(boxes))[0]


def from_points(image: PromptableImage, points: np.ndarray) -> Tensor:
    """The masks of points [N, P, 2], all inside: logits [N, H, W]."""
    import torch

    labels = torch.ones(points.shape[:2], dtype=torch.long)
    return choose(image, points=torch.from_numpy(points), labels=labels)[0]


def choose(
    image: PromptableImage, *, boxes: Tensor | None = None, points: Tensor | None = None, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One mask for each prompt, as in `PromptableImage.predict`: logits [N, H, W] and its IoU score [N].

    A single point is ambiguous: of its three masks, the one that the model itself believes in most.
    """
    import torch

    prompts = {"boxes": boxes, "points": points, "labels": labels}
    given = {name: prompt for name, prompt in prompts.items() if prompt is not None}
    ambiguous = boxes is None and points is not None and points.shape[1] == 1
    logits, scores = image.predict(**given, multimask=ambiguous)
    best = scores.argmax(1)
    every = torch.arange(len(best), device=logits.device)
    return logits[every, best], scores[every, best]


def overlaps(answer: Tensor, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of bool masks [N, H, W], one by one: float64 [N]."""
    import torch

    from vfmerge.losses import mask_iou

    return mask_iou(answer, torch.from_numpy(truth).to(answer.device)).double().cpu().numpy()
