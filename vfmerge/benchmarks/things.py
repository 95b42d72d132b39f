"""Things in pictures, which have a mask and a name, and the prompts that ask for them.

Axis letters: N things of a picture, n of them that are asked for, P points a prompt, H x W pixels, K detected boxes.
"""

from __future__ import annotations

import abc
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vfmerge.data.source import Sample

from . import detections
from .instances import Instances, Key
from .prompts import draw_points, tight_boxes

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 0.5
"""The least IoU of a detected box with the true one for it to stand for the thing (COCO's own least)."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Things:
    """The things of one picture. masks: bool [N, H, W], each with a pixel. labels: int64 [N], their classes."""

    masks: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, sample: Sample, *, most: int) -> Things:
        """The first so many things of a picture; none where its masks have no names, or are no outlines."""
        if sample.masks is None or sample.labels is None or sample.rough:
            return cls(masks=np.zeros((0, *sample.image.shape[:2]), dtype=bool), labels=np.zeros(0, dtype=np.int64))
        kept = np.flatnonzero(sample.masks.any(axis=(1, 2)))[:most]
        return cls(masks=sample.masks[kept], labels=sample.labels[kept])

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """What is asked in a picture. places: int64 [n], which things it is asked for.

    One of boxes: float32 [n, 4], x0, y0, x1, y1, and points: float32 [n, P, 2], x and y, all inside.
    """

    places: np.ndarray
    boxes: np.ndarray | None = None
    points: np.ndarray | None = None

    @property
    def coordinates(self) -> np.ndarray:
        """The boxes or the points."""
        found = self.points if self.boxes is None else self.boxes
        assert found is not None
        return found

    def arguments(self) -> dict[str, Tensor]:
        """The same for `RecognisedImage.recognise`."""
        import torch

        if self.boxes is not None:
            return {"boxes": torch.from_numpy(self.boxes)}
        points = torch.from_numpy(self.coordinates)
        return {"points": points, "labels": torch.ones(points.shape[:2], dtype=torch.long)}


class Prompter(abc.ABC):
    """A way to ask for things. name: of its metrics. file: where its answers are written."""

    name: str
    file: str

    @abc.abstractmethod
    def ask(self, sample: Sample, things: Things) -> Prompts:
        """The prompts for the things of a picture, the same for every model; a thing may be left out."""


class TightBoxes(Prompter):
    """The box of each true mask."""

    name = "box"
    file = "boxes.jsonl"

    def ask(self, sample: Sample, things: Things) -> Prompts:
        return Prompts(places=np.arange(len(things)), boxes=tight_boxes(things.masks))


class Points(Prompter):
    """Any pixel of each true mask."""

    name = "point"
    file = "points.jsonl"

    def ask(self, sample: Sample, things: Things) -> Prompts:
        return Prompts(places=np.arange(len(things)), points=draw_points(things.masks, sample.name))


class DetectedBoxes(Prompter):
    """Of a detector's boxes the one that overlaps the true box most, whatever it was taken for.

    A thing without a box of IoU `NEAR` or more is not asked for.
    """

    name = "detected"
    file = "detections.jsonl"

    def __init__(self, path: Path, *, annotations: Path) -> None:
        """path: of the detections. annotations: of the data. Raises InputError for files that cannot be used."""
        truth = Instances(annotations, style="coco")
        found = detections.read(path, frames=truth.frames, categories=truth.categories)
        self._corners: dict[Key, np.ndarray] = {key: boxes.corners for key, boxes in found.items()}

    def ask(self, sample: Sample, things: Things) -> Prompts:
        assert sample.key is not None
        corners = self._corners.get(sample.key, np.zeros((0, 4), dtype=np.float32))
        if not len(corners):
            return Prompts(places=np.arange(0), boxes=corners)
        true = tight_boxes(things.masks) + np.array([0, 0, 1, 1], dtype=np.float32)  # to the far pixels' far edges
        overlaps = box_ious(true, corners)
        places = np.flatnonzero(overlaps.max(axis=1) >= NEAR)
        return Prompts(places=places, boxes=corners[overlaps[places].argmax(axis=1)])


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [N, 4] with boxes [K, 4], x0, y0, x1, y1 along edges: float [N, K]."""
    near = np.maximum(first[:, None, :2], second[None, :, :2])
    far = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (far - near).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    ious: np.ndarray = shared / (areas[0][:, None] + areas[1][None, :] - shared)
    return ious
