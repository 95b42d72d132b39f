"""Semantic segmentation as anybody may have it: a folder of pictures, and one of index PNGs with the same names."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vfmerge.data import pairs, paths
from vfmerge.data.legend import Legend
from vfmerge.errors import InputError

Value = Annotated[int, Field(ge=0, le=65535)]


class Semantic(pairs.Numbered):
    """Pictures with the class of each pixel: for the mask `a/b.png`, the picture `a/b` of any extension.

    images, masks: the two folders, or one for both if names tell them apart. Masks are PNGs of 8 or 16 bits of grey or
    with a palette, whose indices count, not its colours. A picture without a mask is no sample.
    classnames: a file with a name for each class, one a line.
    values: the number in the masks of each class, or of the first, from which the others count up.
    background: the number of what is of no class, which is judged. void: numbers that are not judged. Any other number
    makes its sample bad.
    suffix: how the names of masks end after those of their pictures, such as `_labels.png`.
    split: a file that lists the samples, one a line: paths of pictures without extension; none is all masks there are.
    limit: only the first so many.
    """

    def __init__(
        self,
        *,
        images: str,
        masks: str,
        classnames: str,
        values: Value | tuple[Value, ...] = 0,
        background: Value | None = None,
        void: Value | tuple[Value, ...] = 255,
        suffix: str = ".png",
        split: str | None = None,
        limit: int | None = None,
    ) -> None:
        image_root, mask_root = paths.folder(images, option="images"), paths.folder(masks, option="masks")
        self.classes = paths.class_names(classnames, option="classnames")
        numbers = values if isinstance(values, tuple) else tuple(range(values, values + len(self.classes)))
        if len(numbers) != len(self.classes):
            raise InputError(f"values: {len(numbers)} numbers for {len(self.classes)} classes; give one for each")
        voids = void if isinstance(void, tuple) else (void,)
        self._legend = Legend(numbers, background=background, void=voids)
        if not suffix.endswith(".png"):
            raise InputError(f"suffix: {paths.shown(suffix)!r} is not of a PNG; give one that ends in .png")
        stems = pairs.stems(mask_root, suffix=suffix, option="masks")
        if split is not None:
            stems = pairs.listed(paths.file(split, option="split"))
        self._pairs = pairs.match(image_root, mask_root, suffix=suffix, stems=stems, limit=limit)
        self._meaning = [*self.classes, numbers, background, voids]

    def facts(self) -> list[object]:
        return ["semantic", *self._meaning]
