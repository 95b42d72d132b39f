"""The truth of instance segmentation as scoring tools know it: the annotations file itself, crowds and all.

A source gives what can be learned from; what is judged needs more: crowds, areas, and LVIS's lists of the categories
that were looked for in a picture.
"""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any, Literal

from pycocotools import mask as coco_mask

from vfmerge.data import coco_file, paths, rle
from vfmerge.errors import BadSample, InputError

Key = int | str
"""The id of a picture in its annotations."""
Style = Literal["coco", "lvis"]
"""Whose rules: COCO's, or those of LVIS (arXiv 1908.03195, section 2), where a picture is judged in some categories."""

FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}
"""LVIS's groups of categories, by how many training pictures they are in: 10 at most, 100 at most, more."""

_LARGEST = 1e10  # pixels: what COCO's largest range of areas ends at


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A picture as LVIS and COCO describe it.

    negative: ids of categories that were looked for and are not there. partial: ids of categories of which not every
    thing is marked. Both are empty in COCO, where every category was looked for everywhere.
    """

    height: int
    width: int
    negative: frozenset[int] = frozenset()
    partial: frozenset[int] = frozenset()


class Instances:
    """The things of an annotations file. frames: its pictures by id. categories: their ids, and in LVIS how frequent.

    Raises InputError if the file cannot be read, or has not what LVIS's rules need.
    """

    def __init__(self, path: Path, *, style: Style) -> None:
        where = repr(paths.shown(path))
        parsed, _ = coco_file.load(str(path), option="annotations")
        self.frames: dict[Key, Frame] = dict(_frame(each, style, where) for each in parsed["images"])
        self.categories: dict[int, str] = dict(_category(each, style, where) for each in parsed.get("categories", ()))
        self._things: dict[Key, list[dict[str, Any]]] = collections.defaultdict(list)
        for annotation in parsed["annotations"]:
            match annotation:
                case {"image_id": int() | str() as key, "category_id": int(category), "segmentation": _} if (
                    key in self.frames and category in self.categories
                ):
                    self._things[key].append(annotation)

    def things(self, key: Key) -> list[dict[str, Any]]:
        """What pycocotools must know of each thing in a picture: category_id, segmentation as RLE, area and iscrowd.

        What cannot be used is left out, as the source does, which refuses a file with more than a little of it.
        """
        frame, found = self.frames[key], []
        for annotation in self._things.get(key, []):
            try:
                found.append(_thing(annotation, frame))
            except BadSample:
                continue
        return found

    def judged(self, key: Key) -> set[int]:
        """The categories that LVIS judges a picture in: those that are marked in it, or surely not there."""
        return {each["category_id"] for each in self._things.get(key, [])} | self.frames[key].negative


def _frame(image: object, style: Style, where: str) -> tuple[Key, Frame]:
    match image:
        case {"id": int() | str() as key, "height": int(height), "width": int(width)} if (
            0 < height <= rle.MAX_SIDE and 0 < width <= rle.MAX_SIDE
        ):
            pass
        case _:
            raise InputError(f"{where}: a picture has no id, height or width; get the file again")
    if style == "coco":
        return key, Frame(height=height, width=width)
    match image:
        case {"neg_category_ids": [*negative], "not_exhaustive_category_ids": [*partial]} if all(
            isinstance(each, int) for each in (*negative, *partial)
        ):
            return key, Frame(height=height, width=width, negative=frozenset(negative), partial=frozenset(partial))
        case _:
            raise InputError(
                f"style: lvis needs neg_category_ids and not_exhaustive_category_ids of each picture, which {where} "
                "has not; give a file of LVIS v1, or style coco"
            )


def _category(category: object, style: Style, where: str) -> tuple[int, str]:
    match category:
        case {"id": int(key), "frequency": "r" | "c" | "f" as frequency} if style == "lvis":
            return key, FREQUENCIES[frequency]
        case {"id": int(key)} if style == "coco":
            return key, ""
        case _:
            missing = "id" if style == "coco" else "frequency of r, c or f"
            raise InputError(f"style: {style}: a category in {where} has no {missing}; give a file of that style")


def _thing(annotation: dict[str, Any], frame: Frame) -> dict[str, Any]:
    height, width = frame.height, frame.width
    runs = rle.parse(annotation["segmentation"], height=height, width=width).runs(height=height, width=width)
    drawn = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    match annotation:
        case {"area": int() | float() as area} if 0 <= area <= _LARGEST:
            pass
        case _:
            area = coco_mask.area(drawn)
    return {
        "category_id": annotation["category_id"],
        "segmentation": drawn,
        "area": float(area),
        "iscrowd": int(annotation.get("iscrowd") == 1),
    }
