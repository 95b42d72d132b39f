"""One evaluation of a recipe at work: models are measured, or their scores are remembered.

Axis letters: R bootstrap samples.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vfmerge.benchmarks.benchmark import Benchmark, Score, Setup
from vfmerge.benchmarks.predictions import Predictions
from vfmerge.errors import InputError, one_line
from vfmerge.store import Store, key
from vfmerge.subject import Subject

if TYPE_CHECKING:
    from vfmerge.data.source import Source
    from vfmerge.recipe import Evaluation

Progress = Callable[[str, int, int], None]
"""Told what is measured, how many pictures are done, and of how many."""


_LIBRARIES = [importlib.metadata.version(name) for name in ("vfmerge", "torch", "numpy")]
"""Versions that may change a score in its last places, or, of vfmerge, a protocol."""


def quiet(title: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One evaluation of a recipe at work."""

    name: str
    evaluation: Evaluation
    benchmark: Benchmark
    source: Source
    train: Source | None
    progress: Progress
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
            return self._measure(subject)
        return unpack(self.store.recall(self._key(subject), lambda: pack(self._measure(subject))))

    def _measure(self, subject: Subject) -> list[Score]:
        benchmark = self.benchmark.cascade() if subject.way == "cascade" else self.benchmark
        assert benchmark is not None
        folder = self.predictions and self.predictions / self.name / subject.name.replace(" ", "_")
        setup = Setup(
            progress=functools.partial(self.progress, f"{self.name}: {subject.name}"),
            train=self.train,
            predictions=Predictions(folder),
            store=self.store,
        )
        try:
            return benchmark.measure(subject.capabilities, self.source, setup)
        except InputError as error:
            raise InputError(one_line(f"evaluate.{self.name}: {error}")) from error

    def _key(self, subject: Subject) -> str:
        """A hash of model, protocol and data."""
        asked, benchmark = self.evaluation, self.benchmark
        protocol = [asked.benchmark, asked.options, benchmark.revision, benchmark.digest(), subject.way]
        data = [self.source.digest(), self.train.digest() if self.train else None]
        return key("scores", *_LIBRARIES, dict(subject.keys), protocol, data)


def pack(scores: Sequence[Score]) -> dict[str, np.ndarray]:
    """Scores as arrays, to be remembered: samples [number of scores, R] or ragged, and the rest as JSON."""
    facts = [dataclasses.asdict(dataclasses.replace(score, resampled=np.zeros(0))) for score in scores]
    plain = [{name: value for name, value in fact.items() if name != "resampled"} for fact in facts]
    arrays = {f"resampled.{number}": score.resampled for number, score in enumerate(scores)}
    return arrays | {"scores": np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8)}


def unpack(arrays: Mapping[str, np.ndarray]) -> list[Score]:
    """What `pack` packed."""
    facts = json.loads(arrays["scores"].tobytes())
    return [Score(resampled=arrays[f"resampled.{number}"], **fact) for number, fact in enumerate(facts)]
