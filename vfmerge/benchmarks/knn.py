"""k nearest neighbours: what frozen features say without learning anything (DINO, arXiv 2104.14294, appendix).

Axis letters: B pictures, N pictures to learn from, D feature width, K classes, k neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vfmerge.capability import Capability
from vfmerge.data.source import Source

from .benchmark import Benchmark, Score, Setup
from .features import View, train_of
from .probe import Lesson, Pool, Probe

if TYPE_CHECKING:
    from torch import Tensor


class KNN(Benchmark):
    """Weighted k-NN of frozen trunks: top1, and top5 where there are ten classes or more.

    The k training pictures of largest cosine vote for their classes with weight exp(cosine / temperature), as in DINO.
    A class without a vote comes after all others, in the order of the classes.

    neighbours: k (DINO: 20 is best). temperature: of the votes (DINO: 0.07). Other options are as in `linear_probe`.
    """

    learns = True

    def __init__(
        self,
        *,
        parents: tuple[str, ...] | None = None,
        size: Annotated[int, Field(ge=8)] = 224,
        pool: Pool = "summary",
        limit: Annotated[int, Field(ge=1)] | None = None,
        train_limit: Annotated[int, Field(ge=1)] | None = None,
        batch: Annotated[int, Field(ge=1)] = 64,
        neighbours: Annotated[int, Field(ge=1)] = 20,
        temperature: Annotated[float, Field(gt=0)] = 0.07,
    ) -> None:
        view = View(size=size, batch=batch)
        self._probe = Probe(view=view, pool=pool, parents=parents, limit=limit, train_limit=train_limit)
        self._neighbours, self._temperature = neighbours, temperature

    def tasks(self) -> None:
        return None

    def lacks(self, source: Source) -> str:
        return "" if source.classes else "class names"

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        train = train_of(self, source, setup)
        return self._probe.measure(model, train=train, source=source, setup=setup, learn=self._learn)

    def _learn(self, lesson: Lesson) -> Callable[[Tensor], Tensor]:
        return functools.partial(vote, lesson=lesson, neighbours=self._neighbours, temperature=self._temperature)


def vote(features: Tensor, *, lesson: Lesson, neighbours: int, temperature: float) -> Tensor:
    """The votes for each class [B, K] of the pictures nearest to features [B, D]."""
    import torch
    import torch.nn.functional as F

    asked = F.normalize(features, dim=1)
    cosines = torch.empty(len(asked), 0, device=asked.device)  # [B, k], of the nearest so far
    labels = torch.empty(len(asked), 0, dtype=torch.long, device=asked.device)
    for first, rows in lesson.features.chunks():
        lesson.work.advance(0)
        known = F.normalize(torch.tensor(rows, device=asked.device), dim=1)
        theirs = torch.tensor(lesson.labels[first : first + len(rows)], device=asked.device)
        near, places = (asked @ known.T).topk(min(neighbours, len(rows)), dim=1)
        cosines, labels = torch.cat([cosines, near], dim=1), torch.cat([labels, theirs[places]], dim=1)
        cosines, places = cosines.topk(min(neighbours, cosines.shape[1]), dim=1)
        labels = labels.gather(1, places)
    votes = torch.zeros(len(asked), lesson.classes, device=asked.device)
    return votes.scatter_add(1, labels, (cosines / temperature).exp())
