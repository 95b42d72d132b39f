"""Promptable segmentation: the mask that a ground-truth box or point calls up, against the mask it was taken from.

Axis letters: N masks of a picture, P points a prompt, K masks a prompt, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from vfmerge import capability
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

from .benchmark import Benchmark, Score, Setup, promptable_of, ratio, samples, score
from .predictions import Predictions, run_lengths
from .prompts import draw_points, from_boxes, from_points, overlaps, tight_boxes

if TYPE_CHECKING:
    from torch import Tensor


class Promptable(Benchmark):
    """Masks from ground-truth prompts: box_miou and point_miou, means over masks of intersection over union.

    A box is tight, and gives the single mask. A point is any pixel of the mask, and gives three, of which the one that
    the model itself believes in most is taken, as users of SAM do; several points are not ambiguous and give one.

    promptable: the parent that is prompted. limit: at most so many pictures. masks: at most so many of a picture, the
    first ones. points: pixels in a point prompt.
    """

    def __init__(
        self,
        *,
        promptable: str = "sam",
        limit: Annotated[int, Field(ge=1)] | None = None,
        masks: Annotated[int, Field(ge=1)] = 32,
        points: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        self._task, self._limit, self._masks, self._points = promptable, limit, masks, points

    def tasks(self) -> dict[str, str]:
        return {capability.Promptable.name: self._task}

    def lacks(self, source: Source) -> str:
        return "" if source.has_masks else "masks"

    def measure(
        self,
        model: Mapping[str, capability.Capability],
        source: Source,
        setup: Setup = Setup(),
    ) -> list[Score]:
        promptable = promptable_of(model, self._task)
        if promptable is None:
            return []
        boxes: list[tuple[float, int]] = []
        points: list[tuple[float, int]] = []
        for sample in samples(source, limit=self._limit, setup=setup):
            truth = self._truth(sample)
            if len(truth):
                image = promptable.set_image(sample.image)
                tight, inside = tight_boxes(truth), draw_points(truth, sample.name, points=self._points)
                for file, prompts, ask, totals in (
                    ("boxes.jsonl", tight, from_boxes, boxes),
                    ("points.jsonl", inside, from_points, points),
                ):
                    answer = ask(image, prompts) > 0
                    ious = overlaps(answer, truth)
                    totals.append((float(ious.sum()), len(ious)))
                    _write(setup.predictions, file, sample.name, prompts=prompts, ious=ious, answer=answer, truth=truth)
        if not boxes:
            raise InputError(f"no picture with a mask among {len(source)}; give data that has masks")
        return [self._score("box_miou", boxes), self._score("point_miou", points)]

    def _truth(self, sample: Sample) -> np.ndarray:
        """The masks to ask for, bool [N, H, W]; one without a pixel has no box and is left out."""
        if sample.masks is None:
            return np.zeros((0, *sample.image.shape[:2]), dtype=bool)
        return sample.masks[sample.masks.any(axis=(1, 2))][: self._masks]

    def _score(self, metric: str, totals: list[tuple[float, int]]) -> Score:
        values = np.array(totals, dtype=float)
        return score(metric=metric, task=self._task, values=values, reduce=ratio, n=int(values[:, 1].sum()))


def _write(
    predictions: Predictions,
    file: str,
    name: str,
    *,
    prompts: np.ndarray,
    ious: np.ndarray,
    answer: Tensor,
    truth: np.ndarray,
) -> None:
    """One line for each mask of a picture: what was asked, what came, and what is true."""
    if not predictions.wanted:
        return
    masks, truths = run_lengths(answer.cpu().numpy()), run_lengths(truth)
    for number, (prompt, iou) in enumerate(zip(prompts.tolist(), ious.tolist(), strict=True)):
        line = {"name": name, "number": number, "prompt": prompt, "iou": iou}
        predictions.line(file, line | {"mask": masks[number], "truth": truths[number]})
