"""COCO's panoptic segmentation (Kirillov et al., CVPR 2019): pixels are of segments, and segments of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vfmerge.data import classnames as lists
from vfmerge.data import coco_file, pairs, paths
from vfmerge.data.legend import Segments
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

_MOST = (1 << 24) - 1  # the largest id that three bytes of colour can hold


class CocoPanoptic(Source):
    """Pictures with pixels of the categories of a panoptic JSON, in the order of its annotations.

    Things and stuff are classes alike, and crowds of a class are of that class. Pixels of no segment are not judged.

    images: the folder of the pictures. annotations: the panoptic JSON. masks: the folder of its PNGs.
    classnames: a file with other words for the classes, one a line, in the order of their ids.
    limit: only the first so many.
    """

    has_pixels = True

    def __init__(
        self, *, images: str, annotations: str, masks: str, classnames: str | None = None, limit: int | None = None
    ) -> None:
        image_root, mask_root = paths.folder(images, option="images"), paths.folder(masks, option="masks")
        parsed, self._digest = coco_file.load(annotations, option="annotations")
        where = paths.shown(annotations)
        numbers, known = coco_file.categories(parsed, where=where)
        self.classes = lists.reworded(classnames, known=known)
        empty = f"annotations: no annotations in {where!r}"
        listed = paths.first(_annotations(parsed, root=image_root, numbers=numbers, where=where), limit, where=empty)
        files = [(file, drawn) for file, drawn, _ in listed]
        paths.require_some(image_root, [file for file, _ in files], option="images")
        paths.require_some(mask_root, [drawn for _, drawn in files], option="masks")
        self._segments = [segments for _, _, segments in listed]
        self._pairs = pairs.Pairs(image_root, mask_root, files=files)

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, index: int) -> Sample:
        return self._pairs.read(index, self._segments[index].label, colours=True)

    def digest(self) -> str:
        return paths.digest(["coco_panoptic", self._digest, *self.classes, *self._pairs.contents()])


def _annotations(
    parsed: dict[str, Any], *, root: Path, numbers: dict[int, int], where: str
) -> list[tuple[str, str, Segments]]:
    """Picture, mask and segments of each annotation. numbers: class number by category id."""
    pictures: dict[object, str] = dict(coco_file.images(parsed["images"], root=root, where=where))
    found = []
    for number, annotation in enumerate(parsed["annotations"]):
        place = f"{where}: annotations[{number}]"
        match annotation:
            case {"image_id": int() | str() as key, "file_name": str(drawn), "segments_info": [*segments]} if (
                key in pictures and paths.inside(drawn)
            ):
                found.append((pictures[key], drawn, _segments(segments, numbers=numbers, where=place)))
            case _:
                raise InputError(
                    f"{place}: needs the image_id of an image, a file_name (a relative path without `..`) and a list "
                    "segments_info; give a panoptic file"
                )
    return found


def _segments(segments: list[object], *, numbers: dict[int, int], where: str) -> Segments:
    classes: dict[int, int] = {}
    for segment in segments:
        match segment:
            case {"id": int(key), "category_id": int(category)} if (
                0 < key <= _MOST and category in numbers and key not in classes
            ):
                classes[key] = numbers[category]
            case _:
                raise InputError(
                    f"{where}: a segment needs an id of its own, of 1 to {_MOST}, and the category_id of a category; "
                    "get the file again"
                )
    ids = np.array(sorted(classes), dtype=np.int64)
    return Segments(ids=ids, classes=np.array([classes[int(key)] for key in ids], dtype=np.int64))
