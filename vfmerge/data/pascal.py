"""PASCAL's pictures with the class of each pixel: VOC 2012 (Everingham et al., IJCV 2010) and, of 2010's, Context
(Mottaghi et al., CVPR 2014)."""

from __future__ import annotations

from typing import Literal

from vfmerge.data import classnames as lists
from vfmerge.data import pairs, paths
from vfmerge.data.legend import Legend

Background = Literal["judged", "void"]
"""What pixels of no class are: judged as background, or not judged."""

_NO_CLASS, _VOID = 0, 255  # in the masks of both


class VOC(pairs.Numbered):
    """Pictures of PASCAL VOC with pixels of 20 classes; the outlines drawn around objects are not judged.

    path: the folder VOC2012 of the development kit. split: a list in ImageSets/Segmentation, without `.txt`.
    masks: the folder in it of the masks; those of the augmented set are usually in SegmentationClassAug.
    background: whether pixels of no class are judged, as in figures of 21 classes, or void, as in figures of 20.
    classnames: a file with other words for the classes, one a line. limit: only the first so many.
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "val",
        masks: str = "SegmentationClass",
        background: Background = "judged",
        classnames: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.classes = lists.reworded(classnames, known=lists.built_in("voc"))
        self._pairs = _pairs(path, listed="Segmentation", split=split, masks=masks, limit=limit)
        self._background = background
        self._legend = _legend(len(self.classes), background=background)

    def facts(self) -> list[object]:
        return ["voc", *self.classes, self._background]


class PascalContext(pairs.Numbered):
    """Pictures of PASCAL VOC 2010 with pixels of the 59 classes that are most frequent in Context.

    The masks are those that mmsegmentation's converter writes from Context's JSON: 1 to 59 are the classes in
    alphabetical order, 0 is all else.

    path: the folder VOC2010 of the development kit. split: a list in ImageSets/SegmentationContext, without `.txt`.
    masks: the folder in it of the masks. background: whether pixels of no class are judged, as in figures of 60
    classes, or void, as in figures of 59.
    classnames: a file with other words for the classes, one a line. limit: only the first so many.
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "val",
        masks: str = "SegmentationClassContext",
        background: Background = "void",
        classnames: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.classes = lists.reworded(classnames, known=lists.built_in("pascal_context"))
        self._pairs = _pairs(path, listed="SegmentationContext", split=split, masks=masks, limit=limit)
        self._background = background
        self._legend = _legend(len(self.classes), background=background)

    def facts(self) -> list[object]:
        return ["pascal_context", *self.classes, self._background]


def _pairs(path: str, *, listed: str, split: str, masks: str, limit: int | None) -> pairs.Pairs:
    """What a development kit lists in ImageSets."""
    root = paths.folder(path, option="path")
    image_root = paths.below(root, "JPEGImages", option="path")
    mask_root = paths.below(root, masks, option="path")
    stems = pairs.listed(paths.file(str(root / "ImageSets" / listed / f"{split}.txt"), option="split"))
    return pairs.match(image_root, mask_root, suffix=".png", stems=stems, limit=limit)


def _legend(classes: int, *, background: Background) -> Legend:
    if background == "judged":
        return Legend(range(1, classes + 1), background=_NO_CLASS, void=[_VOID])
    return Legend(range(1, classes + 1), void=[_NO_CLASS, _VOID])
