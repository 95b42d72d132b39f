"""COCO: a folder of pictures, an `instances` file with masks and labels, and perhaps a `captions` file."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from vfmerge.data import paths, picture, rle
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError

MOST_BAD = 0.01
"""Largest share of unusable annotations that a file may have."""
CROWD = "crowd"

_PROBED = 100  # pictures looked for at opening, to notice a wrong folder


@dataclasses.dataclass(slots=True)
class _Picture:
    """What the files say of one picture."""

    file: str
    height: int
    width: int
    segments: list[rle.Segment] = dataclasses.field(default_factory=list)
    labels: list[int] = dataclasses.field(default_factory=list)
    text: str | None = None


class Coco(Source):
    """Pictures with the masks and labels of an `instances` file, in the file's order.

    images: the folder of the pictures. annotations: the `instances` JSON. captions: a `captions` JSON of the same
    pictures, of which each picture's first caption is its text. limit: only the first so many.

    Classes are the categories in the order of their ids. Annotations of crowds are no single objects and left out.
    Annotations that cannot be used are left out too, and more than 1 % of them is an InputError; `dropped` counts both
    by reason. Masks without a pixel, and of every pixel, are left out when a picture is read.
    """

    has_masks = True

    def __init__(self, *, images: str, annotations: str, captions: str | None = None, limit: int | None = None) -> None:
        self._root = paths.folder(images, option="images")
        instances, self._digests = _load(annotations, option="annotations")
        pictures = _pictures(instances, where=paths.shown(annotations))
        numbers, self.classes = _categories(instances, where=paths.shown(annotations))
        self.dropped: dict[str, int] = _add_masks(pictures, instances, numbers=numbers, where=paths.shown(annotations))
        if captions is not None:
            texts, digest = _load(captions, option="captions")
            self._digests += digest
            _add_captions(pictures, texts, where=paths.shown(captions))
        empty = f"annotations: no images in {paths.shown(annotations)!r}"
        self._pictures = paths.first(list(pictures.values()), limit, where=empty)
        if not any((self._root / known.file).is_file() for known in self._pictures[:_PROBED]):
            missing = paths.shown(self._pictures[0].file)
            raise InputError(
                f"images: {paths.shown(self._root)!r} holds no {missing!r} nor the next; give their folder"
            )

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, index: int) -> Sample:
        known = self._pictures[index]
        height, width = known.height, known.width
        name = paths.printable(known.file)
        image = picture.decode(paths.read(self._root / known.file, name=name), name=name, annotated=(height, width))
        try:
            masks, kept = rle.draw(known.segments, height=height, width=width)
        except BadSample as error:
            raise BadSample(f"{name}: {error}") from error
        labels = np.array(known.labels, dtype=np.int64)[kept]
        return Sample(image=image, name=name, masks=masks, labels=labels, captions=(known.text,) if known.text else ())

    def digest(self) -> str:
        files = [known.file for known in self._pictures]
        return paths.digest(["coco", self._digests, *paths.sizes(self._root, files)])


def _load(path: str, *, option: str) -> tuple[dict[str, Any], str]:
    """A JSON object and the SHA-256 of its file."""
    found = paths.file(path, option=option)
    data = paths.read_whole(found)
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = paths.printable(str(error))[:100]
        raise InputError(f"{option}: {paths.shown(found)!r} is not JSON: {reason}; get the file again") from error
    match parsed:
        case {"images": [*_], "annotations": [*_]}:
            return parsed, hashlib.sha256(data).hexdigest()
        case _:
            raise InputError(
                f"{option}: {paths.shown(found)!r} has no lists `images` and `annotations`; give a COCO file"
            )


def _pictures(instances: dict[str, Any], *, where: str) -> dict[object, _Picture]:
    """Pictures by id."""
    pictures: dict[object, _Picture] = {}
    for number, image in enumerate(instances["images"]):
        match image:
            case {"id": int() | str() as key, "file_name": str(file), "height": int(height), "width": int(width)} if (
                _stays_inside(file) and 0 < height <= rle.MAX_SIDE and 0 < width <= rle.MAX_SIDE
            ):
                if key in pictures:
                    raise InputError(f"{where}: images[{number}]: id {paths.shown(str(key))!r} comes twice; remove one")
                pictures[key] = _Picture(file=file, height=height, width=width)
            case _:
                raise InputError(
                    f"{where}: images[{number}]: needs id, file_name (a relative path without `..`), and height and "
                    f"width of 1 to {rle.MAX_SIDE}; mend or remove it"
                )
    return pictures


def _stays_inside(file: str) -> bool:
    path = PurePosixPath(file)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in file


def _categories(instances: dict[str, Any], *, where: str) -> tuple[dict[int, int], tuple[str, ...]]:
    """Class number by category id, and the names in the order of their numbers."""
    names: dict[int, str] = {}
    match instances:
        case {"categories": [_, *_] as categories}:
            for number, category in enumerate(categories):
                match category:
                    case {"id": int(key), "name": name} if key not in names:
                        names[key] = paths.class_name(name, where=f"{where}: categories[{number}]")
                    case _:
                        raise InputError(f"{where}: categories[{number}]: needs a name and an id of its own, a number")
        case _:
            raise InputError(f"{where}: has no list `categories`; give an `instances` file")
    return {key: number for number, key in enumerate(sorted(names))}, tuple(names[key] for key in sorted(names))


def _add_masks(
    pictures: dict[object, _Picture], instances: dict[str, Any], *, numbers: dict[int, int], where: str
) -> dict[str, int]:
    """Give pictures their masks and labels. Returns what was left out, counted by reason."""
    dropped: collections.Counter[str] = collections.Counter()
    seen: set[object] = set()
    for annotation in instances["annotations"]:
        try:
            _add_mask(pictures, annotation, numbers=numbers, seen=seen)
        except BadSample as error:
            dropped[str(error)] += 1
    total = len(instances["annotations"]) - dropped[CROWD]
    bad = dropped.total() - dropped[CROWD]
    if bad > MOST_BAD * total:
        (reason, times), *_ = (pair for pair in dropped.most_common() if pair[0] != CROWD)
        raise InputError(
            f"{where}: {bad} of {total} annotations cannot be used, more than {MOST_BAD:.0%}; "
            f"mend the most frequent first ({times}): {reason}"
        )
    return dict(dropped)


def _add_mask(
    pictures: dict[object, _Picture], annotation: object, *, numbers: dict[int, int], seen: set[object]
) -> None:
    """Give a picture one mask. Raises BadSample with the reason alone."""
    match annotation:
        case {"iscrowd": 1}:
            raise BadSample(CROWD)
        case {
            "id": int() | str() as number,
            "image_id": int() | str() as key,
            "category_id": int() as category,
            "segmentation": segmentation,
        }:
            pass
        case _:
            raise BadSample("annotation without id, image_id, category_id or segmentation")
    if number in seen:
        raise BadSample("annotation with the id of another")
    seen.add(number)
    if key not in pictures:
        raise BadSample("annotation of a picture that is not listed")
    if category not in numbers:
        raise BadSample("annotation of a category that is not listed")
    known = pictures[key]
    known.segments.append(rle.parse(segmentation, height=known.height, width=known.width))
    known.labels.append(numbers[category])


def _add_captions(pictures: dict[object, _Picture], captions: dict[str, Any], *, where: str) -> None:
    """Give each picture the first caption of its id."""
    found = 0
    for caption in captions["annotations"]:
        match caption:
            case {"image_id": int() | str() as key, "caption": str(text)} if key in pictures:
                found += 1
                pictures[key].text = pictures[key].text or " ".join(text.split())
    if not found:
        raise InputError(
            f"captions: {where!r} has no caption of any picture in annotations; give the file of this split"
        )
