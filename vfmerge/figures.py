"""The figures of a merged model and of what was exported of it: the benchmarks of its recipe, on the same data."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vfmerge import measurement, parts, recipe, retention, signals, store
from vfmerge.capability import Capability
from vfmerge.data.source import Source
from vfmerge.errors import InputError, one_line
from vfmerge.model import MergedModel
from vfmerge.recipe import Evaluation, Recipe
from vfmerge.subject import Subject
from vfmerge.trial import Trial

_APART = 1e-3  # a tenth of a point, chosen here


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric of one task. model: of the merged model. exported: of what was written. n: things that were judged."""

    evaluation: str
    data: str
    task: str
    metric: str
    model: float
    exported: float
    n: int

    @property
    def tolerance(self) -> float:
        """A tenth of a point; among few things, one of them: at a tie the last digit decides."""
        return max(_APART, 1 / self.n)

    @property
    def same(self) -> bool:
        return abs(self.model - self.exported) <= self.tolerance  # which NaN is not


class Comparison:
    """The benchmarks of a recipe that can be asked of an export, ready to be measured."""

    def __init__(
        self,
        source: Path,
        overrides: Sequence[str],
        *,
        benchmarks: Sequence[str] | None,
        tasks: Collection[str],
        among: Collection[str],
    ) -> None:
        """source: the recipe's file. overrides: changes of it, above all where this machine has the data.

        benchmarks: kinds that can be asked, none is any. tasks: those of the export, `among` the model's.
        Raises InputError, naming the key, for a recipe or data that cannot be used, and where no benchmark is left.
        """
        plan = recipe.load(str(source), overrides)
        evaluate = {
            name: each for name, each in plan.evaluate.items() if benchmarks is None or each.benchmark in benchmarks
        }
        made = retention.trials(evaluate, tasks=among, sources=_sources(plan, evaluate))
        fit = [each for each in made if each.benchmark.remembered and _roles(each) <= set(tasks)]
        if not fit:
            wanted = " or ".join(benchmarks or ["a benchmark"])
            text = f"{source}: evaluate: nothing there measures what was exported; add {wanted}, or leave --measure out"
            raise InputError(one_line(text))
        self._trials = fit

    def measure(self, model: MergedModel, exported: Mapping[str, Capability]) -> list[Figure]:
        """Raises Stopped on request, InputError for data that cannot be used."""
        ours, theirs = measurement.merged_of(model).part(exported), Subject(name="exported", capabilities=exported)
        with signals.watch() as request, measurement.Bars(request) as bars:
            trials = [dataclasses.replace(each, progress=bars.tell) for each in self._trials]
            return [figure for trial in trials for figure in _compare(trial, ours, theirs)]


def _sources(plan: Recipe, evaluate: Mapping[str, Evaluation]) -> dict[str, Source]:
    """The data sets that are measured on; the others need not be here."""
    wanted = {name for each in evaluate.values() for name in (each.data, each.train) if name is not None}
    return parts.build_sources(plan.model_copy(update={"data": {n: d for n, d in plan.data.items() if n in wanted}}))


def _roles(trial: Trial) -> set[str]:
    """The tasks that a benchmark asks; of one that asks any, none."""
    return set((trial.benchmark.tasks() or {}).values())


def _compare(trial: Trial, ours: Subject, theirs: Subject) -> list[Figure]:
    """The model's scores may be remembered; what was exported embeds every text anew."""
    scores = dataclasses.replace(trial, store=store.default()).measure(ours)
    again = trial.measure(theirs)
    assert [(each.task, each.metric) for each in scores] == [(each.task, each.metric) for each in again]
    return [
        Figure(
            evaluation=trial.name,
            data=trial.evaluation.data,
            task=one.task,
            metric=one.metric,
            model=one.value,
            exported=other.value,
            n=one.n,
        )
        for one, other in zip(scores, again, strict=True)
    ]
