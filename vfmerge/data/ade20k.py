"""ADE20K (Zhou et al., CVPR 2017): the 150 classes of its scene parsing challenge of 2016."""

from __future__ import annotations

from pathlib import Path

from vfmerge.data import classnames as lists
from vfmerge.data import pairs, paths
from vfmerge.data.legend import Legend
from vfmerge.errors import InputError

_OTHER = 0  # objects of none of the 150 classes, which the challenge does not judge


class ADE20K(pairs.Numbered):
    """Pictures of scenes with pixels of 150 classes; those of other classes are not judged.

    path: the folder ADEChallengeData2016. split: a folder in its images and annotations, such as validation.
    classnames: a file with other words for the classes, one a line; without, of the synonyms in objectInfo150.txt the
    first is taken. limit: only the first so many.
    """

    def __init__(
        self, *, path: str, split: str = "validation", classnames: str | None = None, limit: int | None = None
    ) -> None:
        root = paths.folder(path, option="path")
        image_root = paths.below(root, f"images/{split}", option="path")
        mask_root = paths.below(root, f"annotations/{split}", option="path")
        self.classes = lists.reworded(classnames, known=_classes(root / "objectInfo150.txt"))
        self._legend = Legend(range(1, len(self.classes) + 1), void=[_OTHER])
        stems = pairs.stems(mask_root, suffix=".png", option="path")
        self._pairs = pairs.match(image_root, mask_root, suffix=".png", stems=stems, limit=limit)

    def facts(self) -> list[object]:
        return ["ade20k", *self.classes]


def _classes(table: Path) -> tuple[str, ...]:
    """Names by the challenge's own table, where it lies beside the pictures, else the built-in ones, which are equal.

    The table has columns separated by tabs; Idx counts from 1, and Name is synonyms separated by commas.
    """
    known = lists.built_in("ade20k")
    if not table.is_file():
        return known
    head, *rows = [[cell.strip() for cell in line.split("\t")] for line in paths.text(table).strip().split("\n")]
    where = paths.shown(table)
    if not {"Idx", "Name"} <= set(head) or any(len(row) != len(head) for row in rows):
        raise InputError(f"{where}: is no table with Idx and Name, separated by tabs; get it again or remove it")
    if [row[head.index("Idx")] for row in rows] != [str(number + 1) for number in range(len(known))]:
        raise InputError(f"{where}: does not count from 1 to {len(known)}; get it again or remove it")
    return tuple(paths.class_name(row[head.index("Name")].split(",")[0], where=where) for row in rows)
