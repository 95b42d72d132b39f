"""The samples of a data set that a stream reads, where it does not read all: learning from less data."""

from __future__ import annotations

from vfmerge import random
from vfmerge.data import paths
from vfmerge.data.source import Sample, Source


class Subset(Source):
    """So many samples of a source, drawn by key: of two subsets of one key, the smaller is within the larger.

    They are the first `count` of a keyed shuffle, which takes no memory however large the source is. All of a source
    are that source, in its own order and with its own digest.
    """

    def __init__(self, source: Source, *, count: int, key: int) -> None:
        assert 0 < count <= len(source)
        self._source, self._count, self._key = source, count, key
        self._order = random.Permutation(len(source), key)
        self.has_masks, self.has_pixels, self.has_captions = source.has_masks, source.has_pixels, source.has_captions
        self.classes, self.unseen, self.groups = source.classes, source.unseen, source.groups
        self.annotations = source.annotations

    def __len__(self) -> int:
        return self._count

    def number(self, index: int) -> int:
        """What number the whole source gives to sample `index` of the subset."""
        return index if self._count == len(self._source) else self._order[index]

    def read(self, index: int) -> Sample:
        return self._source.read(self.number(index))

    def digest(self) -> str:
        if self._count == len(self._source):
            return self._source.digest()
        return paths.digest(["subset", self._source.digest(), self._count, self._key])
