"""Robustness: another benchmark on corrupted pictures (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261).

Axis letters: N masks of a picture, H x W pixels.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vfmerge import random
from vfmerge.capability import Capability
from vfmerge.data import paths
from vfmerge.data.source import Sample, Source

from .around import Around, Of, build, find, turn
from .benchmark import Score, Setup
from .corruptions.corruption import NAMES, Name, corrupt

Severity = Annotated[int, Field(ge=1, le=5)]


class Robustness(Around):
    """Robustness: another benchmark on pictures with noise, blur, weather and digital damage.

    Each metric of the other benchmark gives one for each corruption, the mean over severities (`top1 fog`), and one
    over all (`top1 corrupted`). They are the metric as it is: divided neither by AlexNet's, as the paper's mCE is, nor
    by that of clean pictures. A data set that is learnt from stays clean.

    of: the other benchmark and its options, `{benchmark: zero_shot_classification, size: 224}`.
    corruptions: all fifteen (paper), or a list of names. severities: some of 1 to 5 (paper: all).
    side: pictures are first shrunk until their shorter side has so many pixels; with 224 they are as large as the
    paper's ImageNet-C, whose settings larger pictures have. None leaves them as they are.

    elastic_transform moves what is in a picture by up to a fifth of its shorter side, glass_blur by a few pixels. Masks
    and boxes stay where they were, which counts against every model alike.
    """

    def __init__(
        self,
        *,
        of: Of,
        corruptions: Literal["all"] | Annotated[tuple[Name, ...], Field(min_length=1)] = "all",
        severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 2, 3, 4, 5),
        side: Annotated[int, Field(ge=8)] | None = None,
    ) -> None:
        super().__init__([build(*find(of, around=Robustness))])
        self._corruptions: Sequence[Name] = NAMES if corruptions == "all" else tuple(dict.fromkeys(corruptions))
        self._severities, self._side = tuple(dict.fromkeys(severities)), side
        self.controlled = False  # it is seventy-five measurements

    def lacks(self, source: Source) -> str:
        return super().lacks(self._corrupt(source, self._corruptions[0], self._severities[0]))

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        turns = list(itertools.product(self._corruptions, self._severities))
        found: dict[tuple[str, str], dict[str, list[Score]]] = {}  # by task and metric, then by corruption
        for number, (name, severity) in enumerate(turns):
            now = turn(setup, number, len(turns), name=f"{name}_{severity}")
            for score in self._inner[0].measure(model, self._corrupt(source, name, severity), now):
                found.setdefault((score.task, score.metric), {}).setdefault(name, []).append(score)
        scores = []
        for by_corruption in found.values():
            means = [average(alike, suffix=name) for name, alike in by_corruption.items()]
            scores += [*means, average(list(itertools.chain(*by_corruption.values())), suffix="corrupted")]
        return scores

    def _corrupt(self, source: Source, name: Name, severity: int) -> Corrupted:
        return Corrupted(source, name=name, severity=severity, side=self._side)


class Corrupted(Source):
    """A data set whose pictures are corrupted as they are read, always in the same way."""

    def __init__(self, source: Source, *, name: Name, severity: int, side: int | None = None) -> None:
        self._source, self._name, self._severity, self._side = source, name, severity, side
        self.has_masks, self.has_pixels, self.has_captions = source.has_masks, source.has_pixels, source.has_captions
        self.classes, self.unseen, self.groups = source.classes, source.unseen, source.groups
        self.annotations = source.annotations if side is None else None  # its coordinates are of larger pictures

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Sample:
        sample = self._source.read(index)
        if self._side is not None:
            sample = shrink(sample, self._side)
        draw = random.generator("corruption", self._name, self._severity, sample.name)
        image = corrupt(sample.image, name=self._name, severity=self._severity, draw=draw)
        return dataclasses.replace(sample, image=image)

    def digest(self) -> str:
        facts = [self._source.digest(), self._name, self._severity, self._side]
        return paths.digest(["corrupted", *map(str, facts)])


def shrink(sample: Sample, side: int) -> Sample:
    """A sample whose shorter side is `side` pixels, if it was longer, with all that is known of its pixels."""
    from PIL import Image

    height, width = sample.image.shape[:2]
    factor = side / min(height, width)
    if factor >= 1:
        return sample
    frame = round(height * factor), round(width * factor)
    image = Image.fromarray(sample.image).resize(frame[::-1], Image.Resampling.BICUBIC)
    rows, columns = (
        ((np.arange(few) + 0.5) * many / few).astype(int) for few, many in zip(frame, (height, width), strict=True)
    )
    return dataclasses.replace(
        sample,
        image=np.asarray(image),
        masks=None if sample.masks is None else sample.masks[:, rows[:, None], columns],
        pixels=None if sample.pixels is None else sample.pixels[rows[:, None], columns],
    )


def average(scores: Sequence[Score], *, suffix: str) -> Score:
    """The mean of scores of one metric, sample by sample where they were resampled alike, under a name of its own."""
    first = scores[0]
    alike = len({score.resampled.shape for score in scores}) == 1
    return dataclasses.replace(
        first,
        metric=f"{first.metric} {suffix}",
        value=float(np.mean([score.value for score in scores])),
        resampled=np.mean([score.resampled for score in scores], axis=0) if alike else np.zeros(0),
        against=first.against and f"{first.against} {suffix}",
    )
