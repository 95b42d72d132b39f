"""COCO and LVIS: a folder of pictures, an `instances` file with masks and labels, and perhaps a `captions` file."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vfmerge.data import classnames, coco_file, coco_split, paths, picture, rle
from vfmerge.data.classnames import Keep
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError

MOST_BAD = 0.01
"""Largest share of unusable annotations that a file may have."""
CROWD = "crowd"


@dataclasses.dataclass(slots=True)
class _Picture:
    """What the files say of one picture."""

    key: int | str
    file: str
    height: int
    width: int
    segments: list[rle.Segment] = dataclasses.field(default_factory=list)
    labels: list[int] = dataclasses.field(default_factory=list)
    captions: list[str] = dataclasses.field(default_factory=list)


class Coco(Source):
    """Pictures with the masks and labels of an `instances` file, in the file's order.

    images: the folder of the pictures; for LVIS, of train2017 and val2017. annotations: the `instances` JSON.
    captions: a `captions` JSON of the same pictures. limit: only the first so many.
    unseen: which classes are novel: coco17, of COCO; rare, of LVIS; or a file with one name a line. keep: all, to judge
    a model; or seen, to train it, which leaves out novel classes and things of them. coco17 has 48 seen and 17 novel
    classes, and leaves the other 15 out either way. With `unseen`, pictures without a thing that is kept are left out.
    Pictures and captions still show and tell what is left out of masks.

    Classes are the categories in the order of their ids. Annotations of crowds are no single objects and left out.
    Annotations that cannot be used are left out too, and more than 1 % of them is an InputError; `dropped` counts both
    by reason. Masks without a pixel, and of every pixel, are left out when a picture is read.
    """

    has_masks = True

    def __init__(
        self,
        *,
        images: str,
        annotations: str,
        captions: str | None = None,
        unseen: str | None = None,
        keep: Keep = "all",
        limit: int | None = None,
    ) -> None:
        classnames.require_split(keep, told=unseen is not None)
        self._root = paths.folder(images, option="images")
        instances, self._digests = coco_file.load(annotations, option="annotations")
        self.annotations = paths.file(annotations, option="annotations")
        pictures = _pictures(instances, root=self._root, where=paths.shown(annotations))
        numbers, self.classes = coco_file.categories(instances, where=paths.shown(annotations))
        self.dropped = _add_masks(pictures, instances, numbers=numbers, where=paths.shown(annotations))
        self.has_captions = captions is not None
        if captions is not None:
            texts, digest = coco_file.load(captions, option="captions")
            self._digests += digest
            _add_captions(pictures, texts, where=paths.shown(captions))
        listed, empty = list(pictures.values()), f"annotations: no images in {paths.shown(annotations)!r}"
        self._split: list[str] = []
        if unseen is not None:
            names, where = self.classes, paths.shown(annotations)
            split = coco_split.read(unseen, instances=instances, classes=names, where=where)
            self.classes, self.unseen = split.kept(names, keep=keep)
            self._split = ["unseen", *self.classes, *sorted(self.unseen)]
            listed, empty = _only(listed, self.classes, among=names), f"unseen: no thing of a kept class in {where!r}"
        self._pictures = paths.first(listed, limit, where=empty)
        paths.require_some(self._root, [known.file for known in self._pictures], option="images")

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
        texts = tuple(known.captions)
        return Sample(image=image, name=name, masks=masks, labels=labels, captions=texts, key=known.key)

    def digest(self) -> str:
        files = [known.file for known in self._pictures]
        return paths.digest(["coco", self._digests, *self._split, *paths.sizes(self._root, files)])


def _pictures(instances: dict[str, Any], *, root: Path, where: str) -> dict[object, _Picture]:
    """Pictures by id."""
    pictures: dict[object, _Picture] = {}
    for number, (key, file) in enumerate(coco_file.images(instances["images"], root=root, where=where)):
        match instances["images"][number]:
            case {"height": int(height), "width": int(width)} if (
                0 < height <= rle.MAX_SIDE and 0 < width <= rle.MAX_SIDE
            ):
                pictures[key] = _Picture(key=key, file=file, height=height, width=width)
            case _:
                raise InputError(
                    f"{where}: images[{number}]: needs height and width of 1 to {rle.MAX_SIDE}; mend or remove it"
                )
    return pictures


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


def _only(pictures: Iterable[_Picture], classes: Sequence[str], *, among: Sequence[str]) -> list[_Picture]:
    """The pictures with a thing of these classes, without their other things. among: what labels counted before."""
    numbers = {old: classes.index(name) for old, name in enumerate(among) if name in classes}
    kept = []
    for known in pictures:
        places = [place for place, label in enumerate(known.labels) if label in numbers]
        if places:
            segments = [known.segments[place] for place in places]
            labels = [numbers[known.labels[place]] for place in places]
            kept.append(dataclasses.replace(known, segments=segments, labels=labels))
    return kept


def _add_captions(pictures: dict[object, _Picture], captions: dict[str, Any], *, where: str) -> None:
    """Give each picture the captions of its id, in the file's order."""
    for key, text in coco_file.captions(captions["annotations"]):
        if key in pictures:
            pictures[key].captions.append(text)
    if not any(known.captions for known in pictures.values()):
        raise InputError(
            f"captions: {where!r} has no caption of any picture in annotations; give the file of this split"
        )
