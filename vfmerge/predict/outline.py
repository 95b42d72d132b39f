"""Outlines of what is pointed at, or of whatever there is, of a large one found smaller than it is.

Axis letters: H x W pixels of the picture, h x w pixels of what is found in it, N masks.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vfmerge.benchmarks.everything import Everything, Masks
from vfmerge.benchmarks.prompts import choose
from vfmerge.predict.question import Question
from vfmerge.reduction import Reduction
from vfmerge.square import ReducedPrompts, SquarePrompts

_AT_ONCE, _PIXELS = 32, 2**25  # at most so many prompts, and pixels of logits, are decoded at once


class Outlines(abc.ABC):
    """The masks of a picture. ious: float [N], how good the model thinks each is, in 0..1."""

    def __init__(self, reduction: Reduction, ious: np.ndarray) -> None:
        self.reduction, self.ious = reduction, ious

    def __len__(self) -> int:
        return len(self.ious)

    @abc.abstractmethod
    def seen(self, number: int) -> np.ndarray:
        """Mask `number` as it was found: bool [h, w]."""

    @abc.abstractmethod
    def masks(self) -> np.ndarray | Masks:
        """All masks at the picture's own size: N times bool [H, W]."""


class PromptedOutlines(Outlines):
    """Of points and boxes. found: mask logits [n, h, w] and IoUs [n], some at a time."""

    def __init__(self, reduction: Reduction, found: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(reduction, np.concatenate([ious.float().cpu().numpy() for _, ious in found]))
        self._logits = [each for logits, _ in found for each in logits]

    def seen(self, number: int) -> np.ndarray:
        return np.asarray((self._logits[number] > 0).cpu().numpy())

    def masks(self) -> np.ndarray:
        masks = np.zeros((len(self), *self.reduction.frame), dtype=bool)
        for mask, logits in zip(masks, self._logits, strict=True):
            mask[:] = self.reduction.outward(logits)
        return masks


class EveryOutline(Outlines):
    """Of whatever there is. boxes: float32 [N, 4], of the masks as they were found."""

    def __init__(self, reduction: Reduction, found: Masks) -> None:
        super().__init__(reduction, found.scores)
        self._found = found
        self.boxes = found.boxes

    def seen(self, number: int) -> np.ndarray:
        return self._found[number]

    def masks(self) -> Masks:
        if self.reduction.none:
            return self._found
        height, width = self.reduction.frame
        bits = np.zeros((len(self), -(-height * width // 8)), dtype=np.uint8)
        for number, row in enumerate(bits):
            level = torch.from_numpy(self._found[number]).float() - 0.5
            row[:] = np.packbits(self.reduction.outward(level))
        scale = np.tile([width, height], 2) / np.tile(self.reduction.inner[::-1], 2)
        far = np.array([0, 0, 1, 1])  # boxes end with the pixels that they name
        boxes = (self.boxes + far) * scale - far
        return dataclasses.replace(self._found, frame=(height, width), boxes=boxes.astype(np.float32), bits=bits)


class Outliner(abc.ABC):
    """Outlines one picture after another."""

    @abc.abstractmethod
    def outline(self, picture: np.ndarray) -> Outlines:
        """picture: uint8 [H, W, 3]."""


class Prompted(Outliner):
    """Outlines what points and boxes say."""

    def __init__(self, promptable: ReducedPrompts | SquarePrompts, question: Question) -> None:
        self._promptable, self._question = promptable, question

    def outline(self, picture: np.ndarray) -> PromptedOutlines:
        reduction, image = Reduction.of(picture), self._promptable.set_image(picture)
        return PromptedOutlines(reduction, [choose(image, **each) for each in prompts(self._question, reduction)])


class Every(Outliner):
    """Outlines whatever there is."""

    def __init__(self, promptable: ReducedPrompts | SquarePrompts, question: Question) -> None:
        self._promptable = promptable
        self._everything = Everything(grid=question.grid, stability=question.stability)

    def outline(self, picture: np.ndarray) -> EveryOutline:
        reduction, image = Reduction.of(picture), self._promptable.set_image(picture)
        return EveryOutline(reduction, self._everything.find_in(image, reduction.inner))


def prompts(question: Question, reduction: Reduction) -> Iterator[dict[str, Tensor]]:
    """Points, then boxes, some at a time, as `PromptableImage.predict` takes them: each asks for a mask of its own."""
    height, width = reduction.inner
    size = max(1, min(_AT_ONCE, _PIXELS // (3 * height * width)))  # a point has three masks
    if question.points:
        points = reduction.inward(torch.tensor(question.points, dtype=torch.float32))[:, None]  # [N, 1, 2]
        for some in torch.split(points, size):
            yield {"points": some, "labels": torch.ones(some.shape[:2], dtype=torch.long)}
    if question.boxes:
        corners = torch.tensor(question.boxes, dtype=torch.float32).view(-1, 2, 2)
        for boxes in torch.split(reduction.inward(corners).flatten(1), size):
            yield {"boxes": boxes}
