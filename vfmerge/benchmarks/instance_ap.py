"""Instance segmentation of what a detector found: its boxes prompt masks, which are scored as COCO and LVIS do.

SAM-CLIP (arXiv 2310.15308, section 4.2) measures so what is left of SAM, with the boxes of ViTDet-B, after SAM
(arXiv 2304.02643, section 7.4).

Axis letters: N boxes of a picture, H x W pixels, n pictures.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, Promptable
from vfmerge.data import paths
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

from . import detections
from .average_precision import THRESHOLDS, Curve, Matches, average_precision, match
from .benchmark import Benchmark, Score, Setup, promptable_of, samples, score
from .detections import Boxes
from .instances import Instances, Key, Style
from .predictions import run_lengths


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """Which of THRESHOLDS of IoU, things of which range of areas, and categories how frequent it is the mean over."""

    area: str = "all"
    thresholds: tuple[int, ...] = tuple(range(len(THRESHOLDS)))
    frequency: str | None = None


METRICS: dict[Style, dict[str, Metric]] = {
    "coco": {
        "ap": Metric(),
        "ap50": Metric(thresholds=(0,)),
        "ap75": Metric(thresholds=(5,)),
        "ap_small": Metric(area="small"),
        "ap_medium": Metric(area="medium"),
        "ap_large": Metric(area="large"),
    },
    "lvis": {
        "ap": Metric(),
        "ap_rare": Metric(frequency="rare"),
        "ap_common": Metric(frequency="common"),
        "ap_frequent": Metric(frequency="frequent"),
    },
}
MOST: dict[Style, int] = {"coco": 100, "lvis": 300}
"""How many masks are scored: in COCO of a category in a picture, in LVIS of a picture."""

_PIXELS = 1 << 26  # of masks decoded at once: 256 MB of logits
_TIMES = 200  # bootstrap samples (chosen here): with 500,000 masks in 80 categories each takes a tenth of a second


class InstanceAP(Benchmark):
    """Average precision of masks from a detector's boxes, each with the box's category and score.

    With style coco: ap over IoU 0.5 to 0.95, ap50, ap75, and ap_small, ap_medium and ap_large by the area of things.
    With style lvis: ap, and ap_rare, ap_common and ap_frequent by how frequent categories are in training.
    A metric of which the data has no thing is left out.

    detections: a JSON list of {image_id, category_id, bbox [x, y, width, height], score}, ids as in the data's
    annotations. Those of pictures that are not measured do not count.
    promptable: the parent that is prompted, with a box at a time, for its single mask. limit: at most so many pictures.
    style: whose rules. max_detections: the most scored, by score: of each category in a picture (coco: 100), or of a
    picture (lvis: 300).
    """

    def __init__(
        self,
        *,
        detections: str,
        promptable: str = "sam",
        limit: Annotated[int, Field(ge=1)] | None = None,
        style: Style = "coco",
        max_detections: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        self._detections = paths.file(detections, option="detections")
        self._task, self._limit, self._style = promptable, limit, style
        self._most = max_detections or MOST[style]

    def tasks(self) -> dict[str, str]:
        return {Promptable.name: self._task}

    def lacks(self, source: Source) -> str:
        return "" if source.has_masks and source.annotations else "an annotations file of COCO's or LVIS's format"

    def digest(self) -> str:
        """A SHA-256 of the detections."""
        return hashlib.sha256(paths.read_whole(self._detections)).hexdigest()

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        promptable = promptable_of(model, self._task)
        if promptable is None:
            return []
        assert source.annotations is not None
        truth = Instances(source.annotations, style=self._style)
        found = detections.read(self._detections, frames=truth.frames, categories=truth.categories)
        matches: dict[Key, dict[tuple[str, int], Matches]] = {}
        results: list[dict[str, Any]] = []
        for sample in samples(source, limit=self._limit, setup=setup):
            key = _key(sample, truth)
            masks = self._segment(promptable, sample, self._chosen(found.get(key), truth, key))
            matches[key] = self._match(truth, key, masks)
            if setup.predictions.wanted:
                results += [{"image_id": key, **mask} for mask in masks]
        setup.predictions.whole("results.json", results)
        scores = self._scores(truth, matches)
        if not scores:
            raise InputError(f"no picture with a mask among {len(source)}; give data that has masks")
        return scores

    def _chosen(self, boxes: Boxes | None, truth: Instances, key: Key) -> Boxes | None:
        """The boxes that count. LVIS takes the best of a picture before it leaves out what it does not judge there."""
        if boxes is None:
            return None
        if self._style == "coco":
            return boxes.best_of_each(self._most)
        best = boxes.best(self._most)
        return best.only(np.isin(best.categories, list(truth.judged(key))))

    def _segment(self, promptable: Promptable, sample: Sample, boxes: Boxes | None) -> list[dict[str, Any]]:
        """A mask for each box, as COCO's results have it: without the box, so that areas are those of masks."""
        import torch

        if boxes is None or not len(boxes.corners):
            return []
        image = promptable.set_image(sample.image)
        height, width = sample.image.shape[:2]
        drawn = []
        step = max(_PIXELS // (height * width), 1)
        for start in range(0, len(boxes.corners), step):
            logits, _ = image.predict(boxes=torch.from_numpy(boxes.corners[start : start + step]))
            drawn += run_lengths((logits[:, 0] > 0).cpu().numpy())
        return [
            {"category_id": category, "segmentation": mask, "score": value}
            for category, mask, value in zip(boxes.categories.tolist(), drawn, boxes.scores.tolist(), strict=True)
        ]

    def _match(self, truth: Instances, key: Key, masks: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], Matches]:
        things = truth.things(key)
        if not things and not masks:
            return {}
        ranges = {metric.area for metric in METRICS[self._style].values()}
        return match(things, masks, ranges=ranges, partial=truth.frames[key].partial)

    def _scores(self, truth: Instances, matches: Mapping[Key, Mapping[tuple[str, int], Matches]]) -> list[Score]:
        """matches: of each picture, by range of areas and category."""
        found: dict[tuple[str, int], dict[int, Matches]] = collections.defaultdict(dict)
        for number, key in enumerate(sorted(matches, key=lambda key: (isinstance(key, str), key))):
            for place, some in matches[key].items():
                found[place][number] = some
        curves = {place: Curve.of(some) for place, some in found.items() if any(each.things for each in some.values())}
        scores = []
        for name, metric in METRICS[self._style].items():
            chosen = [
                curve
                for (area, category), curve in curves.items()
                if area == metric.area and metric.frequency in (None, truth.categories[category])
            ]
            if chosen:
                scores.append(self._score(name, metric, chosen, pictures=len(matches)))
        return scores

    def _score(self, name: str, metric: Metric, curves: Sequence[Curve], *, pictures: int) -> Score:
        def reduce(chosen: np.ndarray) -> float:
            times = np.bincount(chosen, minlength=pictures)
            return average_precision(curves, times, thresholds=metric.thresholds)

        return score(
            metric=name,
            task=self._task,
            values=np.arange(pictures),
            reduce=reduce,
            n=int(sum(curve.things.sum() for curve in curves)),
            times=_TIMES,
        )


def _key(sample: Sample, truth: Instances) -> Key:
    """A picture's id, under which it is annotated at this size."""
    assert sample.key is not None
    frame = truth.frames[sample.key]
    assert sample.image.shape[:2] == (frame.height, frame.width)
    return sample.key
