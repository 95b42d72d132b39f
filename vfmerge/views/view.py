"""The interface between what is measured and what is shown of it: columns, each of which looks at pictures."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence

from vfmerge.benchmarks.benchmark import samples
from vfmerge.data.source import Sample, Source

from .panel import Bare, Panel


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """How one model sees one picture.

    score: how well, 0 to 1, where that can be said. said: the same as a person reads it, where the number alone does
    not tell.
    """

    panel: Panel
    score: float | None = None
    said: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One model, or what there is to see. control: whether it is a control, which a gallery alone has room for."""

    key: str
    title: str
    subtitle: str
    look: Callable[[Sample], View]
    control: bool = False


class Views(abc.ABC):
    """What the models of one evaluation see in its pictures.

    key: how the drawings are to be read, where they do not say it themselves. scored: what the figures are that stand
    under pictures. columns: the picture first, the merged model last; its score is what pictures are ranked by.
    """

    def __init__(self, source: Source, columns: Sequence[Column], *, key: str = "", scored: str) -> None:
        self._source, self.columns = source, tuple(columns)
        self.key, self.scored = key, scored

    def samples(self, limit: int) -> Iterator[Sample]:
        """Of so many pictures those with something in them."""
        for sample in samples(self._source, limit=limit):
            if self.crowd(sample):
                yield sample

    @abc.abstractmethod
    def crowd(self, sample: Sample) -> int:
        """How many things of a picture can be shown."""

    @abc.abstractmethod
    def legend(self, shown: Sequence[Sample]) -> list[tuple[str, str]]:
        """Colour and name of the classes in these pictures, where a colour is a class's."""


def bare(sample: Sample) -> View:
    """The picture as it is."""
    return View(panel=Bare(picture=sample.image))
