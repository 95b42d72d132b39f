"""One evaluation of a recipe at work: models are measured, or their scores are remembered.

Axis letters: R bootstrap samples.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vfmerge import memory
from vfmerge.benchmarks.benchmark import Benchmark, Score, Setup
from vfmerge.benchmarks.predictions import Predictions
from vfmerge.errors import InputError, one_line
from vfmerge.left_out import LeftOut, once
from vfmerge.provenance import code_of
from vfmerge.store import Store, key
from vfmerge.subject import Subject

if TYPE_CHECKING:
    from vfmerge.data.source import Source
    from vfmerge.recipe import Evaluation

Progress = Callable[[str, int, int], None]
"""Told what is measured, how many pictures are done, and of how many."""
Note = Callable[[LeftOut], None]
"""Told of each picture that is in no figure."""

_SMALLER = "free memory and measure again, or give it a smaller batch, size or limit"


def quiet(title: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def ignore(picture: LeftOut) -> None:
    """A picture that nobody misses."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One evaluation of a recipe at work. note: told of pictures that cannot be used, also of remembered scores."""

    name: str
    evaluation: Evaluation
    benchmark: Benchmark
    source: Source
    train: Source | None
    progress: Progress
    note: Note
    store: Store
    predictions: Path | None

    def suits(self, subject: Subject) -> bool:
        """Whether a model is measured here: the merged one always, a control where it has something to say."""
        if subject.control is None:
            return True
        roles = list((self.benchmark.tasks() or {}).values())
        ways = {
            "own": True,
            "joint": len(roles) > 1 and subject.capabilities.keys() >= set(roles),
            "cascade": self.benchmark.cascade() is not None,
        }
        return self.benchmark.controlled and ways[subject.way]

    def measure(self, subject: Subject) -> list[Score]:
        """The model's scores, remembered or new."""
        known = self.benchmark.remembered and subject.keys.keys() == subject.capabilities.keys()
        if self.predictions is not None or not self.store.remembers or not known:
            scores, missed = self._measure(subject)
        else:
            arrays = self.store.recall(self._key(subject), lambda: pack(*self._measure(subject)))
            scores, missed = unpack(arrays)
        for each in missed:
            self.note(each)
        return scores

    def _measure(self, subject: Subject) -> tuple[list[Score], list[LeftOut]]:
        benchmark = self.benchmark.cascade() if subject.way == "cascade" else self.benchmark
        assert benchmark is not None
        missed: list[LeftOut] = []
        folder = self.predictions and self.predictions / self.name / subject.name.replace(" ", "_")
        setup = Setup(
            progress=functools.partial(self.progress, f"{self.name}: {subject.name}"),
            unusable=lambda *told: missed.append(self._missed(*told)),
            train=self.train,
            predictions=Predictions(folder),
            store=self.store,
        )
        where = f"evaluate.{self.name}"
        try:
            with memory.watch(where, doing=f"while {subject.name} is measured", remedy=_SMALLER):
                return benchmark.measure(subject.capabilities, self.source, setup), once(missed)
        except InputError as error:
            raise InputError(one_line(f"{where}: {error}")) from error

    def _missed(self, source: Source, index: int, reason: str, among: int) -> LeftOut:
        learnt = self.evaluation.train if source is self.train else None
        return LeftOut(data=learnt or self.evaluation.data, sample=index, reason=one_line(reason), among=among)

    def _key(self, subject: Subject) -> str:
        """A hash of model, protocol and data, and of the code of plug-ins that measure and read."""
        asked, benchmark = self.evaluation, self.benchmark
        protocol = [asked.benchmark, asked.options, benchmark.revision, benchmark.digest(), subject.way]
        data = [self.source.digest(), self.train.digest() if self.train else None]
        code = code_of([type(benchmark), type(self.source), type(self.train)])
        return key("scores", dict(subject.keys), protocol, data, code)


def pack(scores: Sequence[Score], missed: Sequence[LeftOut]) -> dict[str, np.ndarray]:
    """Scores as arrays, to be remembered: samples [number of scores, R] or ragged, and the rest as JSON.

    missed: pictures that are in none of them, which is as true of scores that are remembered.
    """
    facts = [dataclasses.asdict(dataclasses.replace(score, resampled=np.zeros(0))) for score in scores]
    plain = [{name: value for name, value in fact.items() if name != "resampled"} for fact in facts]
    arrays = {f"resampled.{number}": score.resampled for number, score in enumerate(scores)}
    told = {"scores": plain, "left_out": [dataclasses.asdict(each) for each in missed]}
    return arrays | {name: np.frombuffer(json.dumps(each).encode(), dtype=np.uint8) for name, each in told.items()}


def unpack(arrays: Mapping[str, np.ndarray]) -> tuple[list[Score], list[LeftOut]]:
    """What `pack` packed."""
    facts, missed = (json.loads(arrays[name].tobytes()) for name in ("scores", "left_out"))
    scores = [Score(resampled=arrays[f"resampled.{number}"], **fact) for number, fact in enumerate(facts)]
    return scores, [LeftOut(**each) for each in missed]
