"""A folder of pictures, and, if wanted, one class a sub-folder as in ImageNet, and groups from a table beside it."""

from __future__ import annotations

import os

import numpy as np

from vfmerge.data import groups as tables
from vfmerge.data import paths, picture
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError


class Folder(Source):
    """All pictures below a folder, in the order of their names.

    path: the folder. labels: the folders directly below it are classes, numbered in the order of their names.
    classnames: a file with a readable name for each class, one a line, in that order.
    whole: each picture has one mask, all of it, of its class: where a thing is, and not how it is outlined.
    groups: a CSV file with a header and a row a picture, such as metadata.csv of WILDS, one of whose columns has the
    pictures' paths relative to `path`. group: the name of the column that says which group a picture is of.
    limit: only the first so many.
    """

    def __init__(
        self,
        *,
        path: str,
        labels: bool = False,
        classnames: str | None = None,
        whole: bool = False,
        groups: str | None = None,
        group: str | None = None,
        limit: int | None = None,
    ) -> None:
        self._root = paths.folder(path, option="path")
        found = paths.walk(self._root, extensions=picture.EXTENSIONS)
        self._files = paths.first(found, limit, where=f"path: no pictures below {paths.shown(self._root)!r}")
        if classnames is not None and not labels:
            raise InputError(f"classnames: {paths.shown(classnames)!r} names classes, but labels is off; set labels")
        if whole and not labels:
            raise InputError("whole: a mask of a whole picture is of its class, but labels is off; set labels")
        self.has_masks = whole
        self._numbers: dict[str, int] = {}
        if labels:
            self._numbers = self._number_classes()
            self.classes = self._name_classes(classnames)
        if (groups is None) != (group is None):
            raise InputError("groups: a table needs `group`, the name of its column, and `group` a table; give both")
        self._groups: list[str] = []
        if groups is not None and group is not None:
            self._groups = tables.read(groups, column=group, files=self._files)
            self.groups = tuple(sorted(set(self._groups)))

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Sample:
        file = self._files[index]
        name = paths.printable(file)
        image = picture.decode(paths.read(self._root / file, name=name), name=name)
        labels = np.array([self._numbers[_class(file)]], dtype=np.int64) if self._numbers else None
        return Sample(
            image=image,
            name=name,
            masks=np.ones((1, *image.shape[:2]), dtype=bool) if self.has_masks else None,
            labels=labels,
            rough=self.has_masks,
            group=self._groups[index] if self._groups else None,
        )

    def digest(self) -> str:
        whole = ["whole"] if self.has_masks else []
        return paths.digest(["folder", *self.classes, *paths.sizes(self._root, self._files), *self._groups, *whole])

    def _number_classes(self) -> dict[str, int]:
        """Every visible folder is a class, even without pictures, so that numbers do not depend on the split."""
        for file in self._files:
            if not _class(file):
                raise InputError(f"labels: {paths.shown(self._root / file)!r} is in no class's folder; move it")
        with os.scandir(self._root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        return {name: number for number, name in enumerate(names)}

    def _name_classes(self, classnames: str | None) -> tuple[str, ...]:
        if classnames is None:
            return tuple(paths.class_name(name, where=paths.shown(self._root)) for name in self._numbers)
        names = paths.class_names(classnames, option="classnames")
        if len(names) != len(self._numbers):
            raise InputError(
                f"classnames: {paths.shown(classnames)!r} has {len(names)} lines for {len(self._numbers)} folders; "
                "give one line for each folder, in the order of their names"
            )
        return names


def _class(file: str) -> str:
    """The first folder of a relative path, empty for a file directly below the root."""
    return file.partition("/")[0] if "/" in file else ""
