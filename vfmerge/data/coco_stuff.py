"""COCO-Stuff 164k (Caesar et al., CVPR 2018): pictures of COCO with pixels of 80 things and 91 kinds of stuff."""

from __future__ import annotations

from vfmerge.data import classnames as lists
from vfmerge.data import pairs, paths
from vfmerge.data.legend import Legend

_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # numbers of things that COCO planned and never annotated
_RAW = tuple(number for number in range(182) if number not in _UNUSED)
_VOID = 255
_CONVERTED = "_labelTrainIds.png"


class CocoStuff(pairs.Numbered):
    """Pictures of COCO with pixels of 171 classes; unlabelled ones are not judged.

    images, masks: two folders, such as val2017 of the pictures and of stuffthingmaps. Masks are as published, with
    numbers up to 181 that have gaps, or, where there are no such, as mmsegmentation converts them, with 0 to 170 in
    files named *_labelTrainIds.png.
    classnames: a file with other words for the classes, one a line. limit: only the first so many.
    """

    def __init__(self, *, images: str, masks: str, classnames: str | None = None, limit: int | None = None) -> None:
        image_root, mask_root = paths.folder(images, option="images"), paths.folder(masks, option="masks")
        self.classes = lists.reworded(classnames, known=lists.built_in("coco_stuff"))
        found = [f"{stem}.png" for stem in pairs.stems(mask_root, suffix=".png", option="masks")]
        raw = [file for file in found if not file.endswith(_CONVERTED)]
        suffix, values = (".png", _RAW) if raw else (_CONVERTED, tuple(range(len(self.classes))))
        stems = [file.removesuffix(suffix) for file in raw or found]
        self._legend = Legend(values, void=[_VOID])
        self._pairs = pairs.match(image_root, mask_root, suffix=suffix, stems=stems, limit=limit)

    def facts(self) -> list[object]:
        return ["coco_stuff", *self.classes]
