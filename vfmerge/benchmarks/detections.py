"""What a detector found: a file of boxes in the format of COCO's results, checked before any of them is a prompt.

Axis letters: N boxes.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vfmerge.data import paths
from vfmerge.data.coco import MOST_BAD
from vfmerge.errors import BadSample, InputError

from .instances import Frame, Key

_LARGEST = 1e9  # a coordinate or score beyond this is no number that a detector means


@dataclasses.dataclass(frozen=True, kw_only=True)
class Boxes:
    """The boxes of one picture, in the order of their file.

    corners: float32 [N, 4], x0, y0, x1, y1 in pixels. categories: int64 [N], ids. scores: float64 [N].
    """

    corners: np.ndarray
    categories: np.ndarray
    scores: np.ndarray

    def only(self, chosen: np.ndarray) -> Boxes:
        """Some of them, by place."""
        return Boxes(corners=self.corners[chosen], categories=self.categories[chosen], scores=self.scores[chosen])

    def best(self, most: int) -> Boxes:
        """At most so many, those of the highest scores; the earlier one of equals."""
        return self.only(np.sort(np.argsort(-self.scores, kind="stable")[:most]))

    def best_of_each(self, most: int) -> Boxes:
        """At most so many of each category, those of the highest scores; the earlier one of equals."""
        order = np.argsort(-self.scores, kind="stable")
        kept = [order[self.categories[order] == category][:most] for category in np.unique(self.categories)]
        return self.only(np.sort(np.concatenate(kept)))


def read(path: Path, *, frames: Mapping[Key, Frame], categories: Collection[int]) -> dict[Key, Boxes]:
    """The boxes of each picture that has any.

    frames: the pictures there are. categories: ids of those there are.
    Boxes that cannot be used are left out. Raises InputError when more than 1 % of them cannot.
    """
    where = f"detections: {paths.shown(path)!r}"
    rows: dict[Key, list[tuple[float, ...]]] = collections.defaultdict(list)
    bad: list[str] = []
    found = _load(path, where=where)
    for number, detection in enumerate(found):
        try:
            key, row = _row(detection, frames=frames, categories=categories)
        except BadSample as error:
            bad.append(f"[{number}] {error}")
        else:
            rows[key].append(row)
    if len(bad) > MOST_BAD * len(found):
        raise InputError(
            f"{where}: {len(bad)} of {len(found)} detections cannot be used, more than {MOST_BAD:.0%}; "
            f"mend the first: {bad[0]}"
        )
    return {key: _boxes(np.array(some)) for key, some in rows.items()}


def _load(path: Path, *, where: str) -> Sequence[object]:
    match paths.parsed(paths.read_whole(path), where=where):
        case [_, *_] as found:
            return found
        case []:
            raise InputError(f"{where} is an empty list; give what a detector found")
        case _:
            raise InputError(f"{where} is no list; give a list of {{image_id, category_id, bbox, score}}")


def _row(
    detection: object, *, frames: Mapping[Key, Frame], categories: Collection[int]
) -> tuple[Key, tuple[float, ...]]:
    """A picture's key, and x0, y0, x1, y1, category, score. Raises BadSample with the reason alone."""
    match detection:
        case {
            "image_id": int() | str() as key,
            "category_id": int(category),
            "bbox": [
                int() | float() as x,
                int() | float() as y,
                int() | float() as width,
                int() | float() as height,
            ],
            "score": int() | float() as score,
        }:
            pass
        case _:
            raise BadSample("needs image_id, category_id, bbox [x, y, width, height] and score")
    if key not in frames:
        raise BadSample(f"image_id {paths.shown(str(key))!r} is of no picture in the annotations")
    if category not in categories:
        raise BadSample(f"category_id {category} is of no category in the annotations")
    if not all(abs(value) <= _LARGEST for value in (x, y, width, height, score)):
        raise BadSample("bbox or score is not a finite number")
    tall, wide = frames[key].height, frames[key].width
    if not (width > 0 and height > 0 and x < wide and y < tall and x + width > 0 and y + height > 0):
        raise BadSample(f"bbox [{x:g}, {y:g}, {width:g}, {height:g}] covers nothing of its {wide} x {tall} picture")
    return key, (x, y, x + width, y + height, category, score)


def _boxes(rows: np.ndarray) -> Boxes:
    """rows: float64 [N, 6]."""
    return Boxes(corners=rows[:, :4].astype(np.float32), categories=rows[:, 4].astype(np.int64), scores=rows[:, 5])
