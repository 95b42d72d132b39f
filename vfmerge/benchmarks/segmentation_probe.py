"""Segmentation probe: heads learn classes of pixels from frozen features (SAM-CLIP, arXiv 2310.15308, table 3).

Axis letters: B pictures of a step, S input side in pixels, C channels, h x w cells, K labels, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability
from vfmerge.data.source import VOID, Sample, Source
from vfmerge.errors import InputError

from .benchmark import Benchmark, Score, Setup, score
from .dense_lesson import DenseLesson, Schedule, label
from .features import View, Work, device, length, train_of, trunks
from .predictions import Predictions
from .segmentation import BACKGROUND_NAME, annotated, count, label_map, mean_iou

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.adapter import Features


class SegmentationProbe(Benchmark):
    """Heads on frozen trunks: linear_miou, deeplabv3_miou, pspnet_miou.

    A head reads the trunk's coarsest map, standardised channel by channel. Its logits are enlarged bilinearly: to the
    size of the labels that it learns from, and to the picture's own to be judged. Mean intersection over union is of
    all pictures' pixels together, over the classes that occur. There is no augmentation, so that each picture is
    encoded once. SAM-CLIP's paper is silent on schedules: all that is tried and chosen here is so for every trunk.

    parents: the tasks whose trunks are probed; none is all. The merged model's trunk is probed once, and compared with
    each. heads: a 1 x 1 convolution, and the heads of DeepLabv3 and PSPNet.
    size: side in pixels of the square that pictures are stretched to, a multiple of the trunk's pixels a cell.
    side: of the labels that are learnt from; none is half of size, which learns as well in a quarter of the time.
    background: what belongs to no class is one more class, or not judged and not learnt.
    limit, train_limit: at most so many pictures to judge, and to learn from.
    steps, batch, decay: of AdamW. rates: of several, each head on each trunk gets the one that does best on a fifth of
    the training pictures, and then learns from all of them; it falls to zero as a cosine.
    """

    learns = True
    controlled = False  # minutes each, for trunks that other benchmarks tell apart

    def __init__(
        self,
        *,
        parents: tuple[str, ...] | None = None,
        heads: Annotated[tuple[Literal["linear", "deeplabv3", "pspnet"], ...], Field(min_length=1)] = ("linear",),
        size: Annotated[int, Field(ge=8)] = 448,
        side: Annotated[int, Field(ge=4)] | None = None,
        background: Literal["class", "ignore"] = "class",
        limit: Annotated[int, Field(ge=1)] | None = None,
        train_limit: Annotated[int, Field(ge=1)] | None = None,
        steps: Annotated[int, Field(ge=1)] = 2000,
        batch: Annotated[int, Field(ge=2)] = 16,
        rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1e-3, 1e-2, 1e-1),
        decay: Annotated[float, Field(ge=0)] = 1e-4,
    ) -> None:
        self._parents, self._heads, self._background = parents, tuple(dict.fromkeys(heads)), background
        self._view, self._side = View(size=size, batch=batch), side or size // 2
        self._limit, self._train_limit = limit, train_limit
        self._schedule = Schedule(steps=steps, batch=batch, rates=tuple(dict.fromkeys(rates)), decay=decay)

    def tasks(self) -> None:
        return None

    def lacks(self, source: Source) -> str:
        missing = [] if source.has_masks or source.has_pixels else ["masks"]
        return " and ".join(missing if source.classes else [*missing, "class names"])

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        train = train_of(self, source, setup)
        found = trunks(model, self._parents)
        steps = len(self._heads) * self._schedule.work
        each = length(train, self._train_limit) + steps + length(source, self._limit)
        work = Work(setup, total=len(found) * each)
        setup.predictions.legend([*source.classes, BACKGROUND_NAME])
        scores = []
        for capability, tasks in found:
            heads = self._learn(capability, train, work=work)
            counts = self._judge(capability, heads, source, predictions=setup.predictions, work=work)
            for head, rows in counts.items():
                values = np.stack(rows)
                one = score(metric=f"{head}_miou", task=tasks[0], values=values, reduce=mean_iou, n=len(rows))
                scores += [dataclasses.replace(one, task=task) for task in tasks]
        return scores

    def _learn(self, capability: Capability, train: Source, *, work: Work) -> dict[str, nn.Module]:
        """Each head, learnt from the pictures of `train`."""
        classes = len(train.classes) + (self._background == "class")
        with DenseLesson(classes=classes, side=self._side, device=device(capability)) as lesson:
            for some, features in self._view.look(capability, train, limit=self._train_limit, work=work):
                for sample, cells in zip(some, coarsest(features), strict=True):
                    if annotated(sample):
                        lesson.add(cells, self._truth(sample, train))
            if not len(lesson):
                raise InputError(f"train: no picture with labels of pixels among {len(train)}; give data that has some")
            return {head: lesson.learn(head, self._schedule, work=work) for head in self._heads}

    def _judge(
        self,
        capability: Capability,
        heads: Mapping[str, nn.Module],
        source: Source,
        *,
        predictions: Predictions,
        work: Work,
    ) -> dict[str, list[np.ndarray]]:
        """For each head, what `count` counts in each picture."""
        import torch

        counts: dict[str, list[np.ndarray]] = {head: [] for head in heads}
        for some, features in self._view.look(capability, source, limit=self._limit, work=work):
            cells = coarsest(features)
            for head, network in heads.items():
                with torch.no_grad():
                    logits = network(cells)  # [B, K, h, w]
                for sample, low in zip(some, logits, strict=True):
                    if annotated(sample):
                        truth = self._truth(sample, source)
                        answer = label(low, (truth.shape[0], truth.shape[1]))
                        counts[head].append(count(answer, truth, classes=len(source.classes) + 1))
                        predictions.labels("truth", sample.name, truth)
                        predictions.labels(f"{head}_miou", sample.name, answer)
        if not any(row[:, 2].any() for rows in counts.values() for row in rows):
            raise InputError(f"no picture with labels of pixels among {len(source)}; give data that has some")
        return counts

    def _truth(self, sample: Sample, source: Source) -> np.ndarray:
        """The class of each pixel, int64 [H, W]; VOID where it is neither learnt nor judged."""
        background = len(source.classes)
        truth = label_map(sample, background=background)
        return np.where(truth == background, VOID, truth) if self._background == "ignore" else truth


def coarsest(features: Features) -> Tensor:
    """The map [B, C, h, w] that heads read."""
    if not features.maps:
        raise InputError("parents: a trunk that gives no map cannot be probed for segmentation; name others")
    return features.maps[-1].float()
