"""Linear probe: how well a line between frozen features tells classes apart (CLIP, arXiv 2103.00020, appendix A.3).

Axis letters: B pictures, N pictures to learn from, D feature width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from vfmerge import random
from vfmerge.capability import Capability
from vfmerge.data.source import Source

from . import logistic
from .benchmark import Benchmark, Score, Setup
from .features import View, train_of
from .probe import Lesson, Pool, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Tried, the strongest first: a decade apart (chosen here; CLIP refines the best to an eighth of a decade)."""

_HELD_OUT = 5  # one picture in so many chooses the penalty (chosen here)


class LinearProbe(Benchmark):
    """Linear probe of frozen trunks: top1, and top5 where there are ten classes or more.

    Multinomial logistic regression on standardised features, by L-BFGS on all pictures at once, which has one answer
    and no rate or schedule to choose. The L2 penalty is the one that does best on a fifth of the training pictures;
    then all of them are learnt from.

    parents: the tasks whose trunks are probed; none is all. The merged model's trunk is probed once, and compared with
    each. size: side in pixels of the square that pictures are stretched to, a multiple of the trunk's pixels a cell.
    pool: what stands for a picture: the trunk's `summary`, or where it has none the mean over its map; or the `mean` or
    `max` over the map for all. limit, train_limit: at most so many pictures to judge, and to learn from.
    batch: pictures encoded at once. iterations: of L-BFGS for each penalty, at most (CLIP: 1000).
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
        iterations: Annotated[int, Field(ge=1)] = 1000,
    ) -> None:
        view = View(size=size, batch=batch)
        self._probe = Probe(view=view, pool=pool, parents=parents, limit=limit, train_limit=train_limit)
        self._iterations = iterations

    def tasks(self) -> None:
        return None

    def lacks(self, source: Source) -> str:
        return "" if source.classes else "class names"

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        train = train_of(self, source, setup)
        return self._probe.measure(model, train=train, source=source, setup=setup, learn=self._learn)

    def _learn(self, lesson: Lesson) -> Callable[[Tensor], Tensor]:
        problem = logistic.Problem(lesson, iterations=self._iterations)
        learnt = np.ones(len(lesson.labels), dtype=bool)
        learnt[_draw(len(lesson.labels))] = False
        best, most = PENALTIES[0], -1.0
        found = None
        for penalty in PENALTIES if not learnt.all() else ():
            found = problem.solve(penalty=penalty, among=learnt, start=found)
            right = problem.accuracy(found, among=~learnt)
            if right > most:  # of equals the stronger
                best, most = penalty, right
        return problem.solve(penalty=best, among=np.ones_like(learnt))


def _draw(count: int) -> np.ndarray:
    """The pictures, of so many, that choose the penalty: the same for every model."""
    return random.generator("linear_probe", "held out", count).permutation(count)[: count // _HELD_OUT]
