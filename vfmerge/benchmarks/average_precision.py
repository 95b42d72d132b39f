"""Average precision of instance masks: matched to the truth picture by picture, then a curve over all pictures.

Matching is pycocotools' own. The curve is taken here, because intervals take it again and again, on pictures that count
once, never or several times; counted once each, they give what pycocotools gives. LVIS's rules are three more: a
picture is judged in some categories only, a category that is not marked completely in a picture has no wrong masks
there, and a picture has so many masks at most, instead of so many of each category.

Axis letters: n pictures, T thresholds of IoU, D masks, R recalls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of IoU, as COCO has them: what a match is. Ten at once make `ap`; the first and the sixth are of ap50 and ap75."""
RECALLS = np.linspace(0, 1, 101)
"""Where the precision of a curve is read."""
RANGES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""COCO's ranges of area, in pixels of a thing."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """What became of the masks of one category in one picture, for the things in one range of areas.

    scores: float [D], highest first. right: bool [T, D], matches a thing. judged: bool [T, D], is right or wrong at
    all, and not of a crowd, of another area, or where nobody looked. things: how many there were to find.
    """

    scores: np.ndarray
    right: np.ndarray
    judged: np.ndarray
    things: int


def match(
    things: Sequence[Mapping[str, Any]],
    masks: Sequence[Mapping[str, Any]],
    *,
    ranges: Iterable[str],
    partial: Collection[int] = (),
) -> dict[tuple[str, int], Matches]:
    """Match the masks of one picture to its things, for each range of areas and category of either.

    things: category_id, segmentation, area and iscrowd of each. masks: category_id, segmentation and score of each.
    Segmentations are compressed run lengths. partial: categories whose masks are never wrong here (LVIS).
    """
    from pycocotools.cocoeval import COCOeval

    found = [{**mask, "area": _area(mask), "iscrowd": 0} for mask in masks]
    ranges = tuple(ranges)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        evaluator = COCOeval(_index(things, found), _index(found, things), "segm")
        evaluator.params.areaRng = [RANGES[name] for name in ranges]
        evaluator.params.maxDets = [max(len(masks), 1)]
        evaluator.params.iouThrs, evaluator.params.recThrs = THRESHOLDS, RECALLS
        evaluator.evaluate()
    places = [(name, category) for category in evaluator.params.catIds for name in ranges]
    return {
        (name, int(category)): _matches(result, partial=category in partial)
        for (name, category), result in zip(places, evaluator.evalImgs, strict=True)
    }


def _area(mask: Mapping[str, Any]) -> float:
    from pycocotools import mask as coco_mask

    return float(coco_mask.area(mask["segmentation"]))


def _index(annotations: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> Any:
    """What pycocotools takes for a data set of one picture. Ids are new, and count from 1: 0 would be no match."""
    from pycocotools.coco import COCO

    coco = COCO()
    height, width = (annotations or others)[0]["segmentation"]["size"]
    categories = {each["category_id"] for each in (*annotations, *others)}
    coco.dataset = {
        "images": [{"id": 1, "height": height, "width": width}],
        "annotations": [{**each, "id": number, "image_id": 1} for number, each in enumerate(annotations, start=1)],
        "categories": [{"id": category} for category in sorted(categories)],
    }
    coco.createIndex()
    return coco


def _matches(result: Mapping[str, Any], *, partial: bool) -> Matches:
    right, ignored = result["dtMatches"] > 0, result["dtIgnore"]
    if partial:
        ignored = ignored | ~right
    return Matches(
        scores=np.array(result["dtScores"], dtype=float),
        right=right & ~ignored,
        judged=~ignored,
        things=int((result["gtIgnore"] == 0).sum()),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """The masks of one category in all pictures, highest score first, from which precision at each recall follows.

    pictures: int [D], the picture of each mask. right, judged: bool [T, D] as in `Matches`.
    places, things: int [pictures with a thing], which they are, and how many things they have.
    """

    pictures: np.ndarray
    right: np.ndarray
    judged: np.ndarray
    places: np.ndarray
    things: np.ndarray

    @staticmethod
    def of(matches: Mapping[int, Matches]) -> Curve:
        """From the matches of each picture by its number; of equal scores the lower number's comes first."""
        numbers = sorted(matches)
        order = np.argsort(-np.concatenate([matches[number].scores for number in numbers]), kind="stable")
        pictures = np.repeat(numbers, [len(matches[number].scores) for number in numbers])[order]
        right = np.concatenate([matches[number].right for number in numbers], axis=1)[:, order]
        judged = np.concatenate([matches[number].judged for number in numbers], axis=1)[:, order]
        seen = judged.any(axis=0)  # the others change nothing, and are most of the masks of a range of areas
        places = [number for number in numbers if matches[number].things]
        return Curve(
            pictures=pictures[seen],
            right=right[:, seen],
            judged=judged[:, seen],
            places=np.array(places, dtype=np.int64),
            things=np.array([matches[number].things for number in places], dtype=np.int64),
        )

    def precision(self, times: np.ndarray, *, thresholds: Sequence[int]) -> np.ndarray | None:
        """Precision [T, R] where picture i counts times[i] times; none where there is nothing to find."""
        total = (times[self.places] * self.things).sum()
        if not total:
            return None
        weights = times[self.pictures]
        right = np.cumsum(self.right[list(thresholds)] * weights, axis=1)
        judged = np.cumsum(self.judged[list(thresholds)] * weights, axis=1)
        precision = np.zeros((len(right), right.shape[1] + 1))  # a recall that is never reached has precision 0
        precision[:, :-1] = right / (judged + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = [row[np.searchsorted(recall, RECALLS)] for row, recall in zip(best, right / total, strict=True)]
        return np.stack(reached)


def average_precision(curves: Sequence[Curve], times: np.ndarray, *, thresholds: Sequence[int]) -> float:
    """The mean over categories, thresholds and recalls; nan where there is nothing to find.

    times: int [n], how often each picture counts. thresholds: which of THRESHOLDS.
    """
    precisions = [curve.precision(times, thresholds=thresholds) for curve in curves]
    known = [precision for precision in precisions if precision is not None]
    return float(np.mean(known)) if known else float("nan")
