"""Probes of whole pictures: learn their classes from the features of one data set, and judge on another.

Axis letters: B pictures, N pictures to learn from, D feature width, K classes, C channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from vfmerge.capability import Capability
from vfmerge.data.source import Source
from vfmerge.errors import InputError

from .benchmark import Score, Setup, batched
from .classification import tops
from .features import Table, View, Work, device, length, trunks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vfmerge.adapter import Features

Pool = Literal["summary", "mean", "max"]
"""What stands for a whole picture: the trunk's own summary, and where it has none the mean over its coarsest map; or
the mean, or the maximum, over that map for every trunk."""

_TOGETHER = 1024  # pictures classified at a time


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What is learnt from: features [N, D] and their labels int64 [N].

    classes: K. device: where to compute. work: to be told that the work goes on.
    """

    features: Table
    labels: np.ndarray
    classes: int
    device: torch.device
    work: Work


Learn = Callable[[Lesson], Callable[["Tensor"], "Tensor"]]
"""Learns, and gives what scores classes: features [B, D] -> [B, K], where more is likelier."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """How features are made of pictures, and which.

    parents: the tasks whose trunks are probed; none is all. limit, train_limit: at most so many pictures.
    """

    view: View
    pool: Pool
    parents: tuple[str, ...] | None
    limit: int | None
    train_limit: int | None

    def measure(
        self, model: Mapping[str, Capability], *, train: Source, source: Source, setup: Setup, learn: Learn
    ) -> list[Score]:
        """top1, and top5 where there are ten classes or more, of each task; tasks of one trunk have the same."""
        found = trunks(model, self.parents)
        pictures = length(train, self.train_limit) + length(source, self.limit)
        work = Work(setup, total=len(found) * pictures)
        setup.predictions.whole("classes.json", list(source.classes))
        scores = []
        for capability, tasks in found:
            with Table("float32") as features:
                labels = self._fill(features, capability, train, work=work)
                rank = learn(_lesson(features, labels, train, device(capability), work))
                ranks = self._judge(rank, capability, source, setup=setup, work=work)
            for one in tops(ranks, classes=len(source.classes), task=tasks[0]):
                scores += [dataclasses.replace(one, task=task) for task in tasks]
        return scores

    def _fill(self, features: Table, capability: Capability, train: Source, *, work: Work) -> list[int]:
        """Put the features of all labelled pictures into the table; their labels."""
        labels: list[int] = []
        for _, label, vector in self._vectors(capability, train, limit=self.train_limit, work=work):
            features.append(vector[None])
            labels.append(label)
        if not labels:
            raise InputError(f"train: no picture with a label among {len(train)}; give data that has labels")
        return labels

    def _judge(
        self,
        rank: Callable[[Tensor], Tensor],
        capability: Capability,
        source: Source,
        *,
        setup: Setup,
        work: Work,
    ) -> np.ndarray:
        """At which place the right class comes for each picture, from 0: int64 [pictures]."""
        import torch

        places: list[int] = []
        vectors = self._vectors(capability, source, limit=self.limit, work=work)
        for some in batched(vectors, _TOGETHER):
            asked = torch.from_numpy(np.stack([vector for _, _, vector in some])).to(device(capability))
            order = rank(asked).argsort(dim=1, descending=True, stable=True).tolist()  # [B, K]
            for (name, label, _), ranked in zip(some, order, strict=True):
                places.append(ranked.index(label))
                setup.predictions.line("predictions.jsonl", {"name": name, "label": label, "ranked": ranked[:5]})
        if not places:
            raise InputError(f"no picture with a label among {len(source)}; give data that has labels")
        return np.array(places)

    def _vectors(
        self, capability: Capability, source: Source, *, limit: int | None, work: Work
    ) -> Iterator[tuple[str, int, np.ndarray]]:
        """Name, label and features [D] of each labelled picture."""
        for some, features in self.view.look(capability, source, limit=limit, work=work):
            vectors = pool(features, self.pool).float().cpu().numpy()
            for sample, vector in zip(some, vectors, strict=True):
                if sample.labels is not None and len(sample.labels):
                    yield sample.name, int(sample.labels[0]), vector


def _lesson(features: Table, labels: list[int], train: Source, where: torch.device, work: Work) -> Lesson:
    return Lesson(features=features, labels=np.array(labels), classes=len(train.classes), device=where, work=work)


def pool(features: Features, way: Pool) -> Tensor:
    """One vector a picture [B, D], of what the trunk saw."""
    if way == "summary" and features.summary is not None:
        return features.summary
    if not features.maps:
        raise InputError(f"pool: {way!r} needs a map, and this trunk gives none; give 'summary'")
    coarsest = features.maps[-1]  # [B, C, h, w]
    return coarsest.amax((2, 3)) if way == "max" else coarsest.mean((2, 3))
