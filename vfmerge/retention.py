"""Retention: what a merged model kept of each parent, measured by the same benchmarks on the same data.

Imports no torch until it measures.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vfmerge import commit, parts
from vfmerge.benchmarks import bootstrap
from vfmerge.benchmarks.benchmark import Benchmark, Score
from vfmerge.problem import refuse
from vfmerge.store import Store, key
from vfmerge.subject import Subject
from vfmerge.trial import Note, Progress, Trial, ignore, quiet

if TYPE_CHECKING:
    from rich.table import Table

    from vfmerge.data.source import Source
    from vfmerge.recipe import Evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of one parent's skill, in the parent and in the merged model, or in a control instead of that.

    parent_value: none where the parent was not there to be measured.
    retention: merged_value / parent_value, and parent_value / merged_value where less is better; none where that has
    no meaning. n: pictures or masks judged. ci_low, ci_high: 95 % interval of the retention, by resampling pictures,
    the same for both models; none where it is not known. control: what was measured in the merged model's place.
    """

    parent: str
    capability: str
    benchmark: str
    data: str
    metric: str
    parent_value: float | None
    merged_value: float
    retention: float | None
    n: int
    ci_low: float | None = None
    ci_high: float | None = None
    control: str | None = None


def prepare(
    evaluate: Mapping[str, Evaluation], *, tasks: Collection[str], sources: Mapping[str, Source]
) -> dict[str, Benchmark]:
    """The benchmarks of a recipe's `evaluate`, checked; reads no picture and imports no torch.

    Raises InputError, naming the key, for an unknown benchmark or option, a role that no parent fills, or data that
    lacks what the benchmark needs: what `check` says of the same.
    """
    benchmarks = parts.build_benchmarks(evaluate)
    refuse(parts.misfits(evaluate, benchmarks, tasks=tasks, sources=sources))
    return benchmarks


def measure_all(
    evaluate: Mapping[str, Evaluation],
    parents: Subject,
    models: Sequence[Subject],
    sources: Mapping[str, Source],
    *,
    progress: Progress = quiet,
    note: Note = ignore,
    store: Store | None = None,
    predictions: Path | None = None,
) -> list[Row]:
    """Every benchmark of a recipe on each parent alone and on each model: the rows of the retention table.

    parents: possibly without some or all of them. models: the merged model, which has all tasks, and controls.
    note: told of pictures that cannot be used, of each for every model. store: where scores are remembered.
    predictions: a folder for what the models answer; nothing is remembered then.
    Raises InputError as `prepare` does, and for data that cannot be used; RunError where there is no memory.
    """
    rows: list[Row] = []
    for trial in trials(
        evaluate,
        tasks=models[0].capabilities.keys(),
        sources=sources,
        progress=progress,
        note=note,
        store=store,
        predictions=predictions,
    ):
        rows += _rows(trial, parents, models)
    return rows


def trials(
    evaluate: Mapping[str, Evaluation],
    *,
    tasks: Collection[str],
    sources: Mapping[str, Source],
    progress: Progress = quiet,
    note: Note = ignore,
    store: Store | None = None,
    predictions: Path | None = None,
) -> list[Trial]:
    """Every benchmark of a recipe with its data, ready to measure models that have these tasks.

    Raises InputError as `prepare` does.
    """
    return [
        Trial(
            name=name,
            evaluation=evaluate[name],
            benchmark=benchmark,
            source=sources[evaluate[name].data],
            train=sources[learnt] if (learnt := evaluate[name].train) else None,
            progress=progress,
            note=note,
            store=store or Store(),
            predictions=predictions,
        )
        for name, benchmark in prepare(evaluate, tasks=tasks, sources=sources).items()
    ]


def _rows(trial: Trial, parents: Subject, models: Sequence[Subject]) -> Iterator[Row]:
    """The rows of one evaluation."""
    benchmark = trial.benchmark
    roles = benchmark.tasks()
    tasks = list(parents.capabilities if roles is None else dict.fromkeys(roles.values()))
    alone = [parents.part(tasks)] if benchmark.together else [_alone(parents, task) for task in tasks]
    of_parents = {(s.task, s.metric): s for subject in alone if subject.capabilities for s in trial.measure(subject)}
    for model in (*models, *_beside(benchmark, parents, models[0])):
        if not trial.suits(model):
            continue
        for merged in trial.measure(model):
            parent = of_parents.get((merged.task, merged.against or merged.metric))
            known = models[0].capabilities.get(merged.task)
            skill = known.name if known else "all"
            yield compare(parent, merged, evaluation=trial.evaluation, capability=skill, control=model.control)


def _beside(benchmark: Benchmark, parents: Subject, merged: Subject) -> Iterator[Subject]:
    """What the benchmark itself sets beside a merged model; its scores are remembered where those of all are."""
    for name, capabilities in benchmark.beside(parents.capabilities, merged.capabilities).items():
        known = all(each.keys.keys() == each.capabilities.keys() for each in (parents, merged))
        made = key("beside", name, dict(parents.keys), dict(merged.keys))
        keys = dict.fromkeys(capabilities, made) if known else {}
        yield Subject(name=name, capabilities=capabilities, keys=keys, control=name)


def _alone(parents: Subject, task: str) -> Subject:
    return dataclasses.replace(parents.part([task]), name=f"{task} alone")


def compare(
    parent: Score | None, merged: Score, *, evaluation: Evaluation, capability: str, control: str | None = None
) -> Row:
    """One row: the merged model's score, or a control's, beside the parent's that it is compared with."""
    low, high = (parent and _interval(parent, merged)) or (None, None)
    return Row(
        parent=merged.task,
        capability=capability,
        benchmark=evaluation.benchmark,
        data=evaluation.data,
        metric=merged.metric,
        parent_value=None if parent is None else parent.value,
        merged_value=merged.value,
        retention=None if parent is None else _ratio(parent, merged),
        n=merged.n,
        ci_low=low,
        ci_high=high,
        control=control,
    )


def _ratio(parent: Score, merged: Score) -> float | None:
    over, under = (parent.value, merged.value) if merged.better == "lower" else (merged.value, parent.value)
    return over / under if under else None


def _interval(parent: Score, merged: Score) -> tuple[float, float] | None:
    """Of the retention: sample by sample where both were resampled alike."""
    if len(parent.resampled) != len(merged.resampled) or _ratio(parent, merged) is None:
        return None
    over, under = (parent, merged) if merged.better == "lower" else (merged, parent)
    with np.errstate(invalid="ignore", divide="ignore"):
        return bootstrap.interval(over.resampled / under.resampled)


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write `retention.json`: a list of objects with the fields of `Row`."""
    commit.write_text(path, json.dumps([dataclasses.asdict(row) for row in rows], indent=2, allow_nan=False) + "\n")


def read(path: Path) -> list[Row]:
    """What `write` wrote."""
    return [Row(**row) for row in json.loads(path.read_text())]


HEADER = ("parent", "benchmark", "data", "metric", "parent's", "merged", "retention", "95 %", "n")


def cells(row: Row) -> tuple[str, ...]:
    """A row as a person reads it, under HEADER."""
    before = "-" if row.parent_value is None else number(row.parent_value)
    kept = "-" if row.retention is None else f"{100 * row.retention:.1f} %"
    near = "-" if row.ci_low is None or row.ci_high is None else f"{100 * row.ci_low:.1f} to {100 * row.ci_high:.1f}"
    return (row.parent, row.benchmark, row.data, row.metric, before, number(row.merged_value), kept, near, str(row.n))


def number(value: float) -> str:
    """A value as a person reads it: shares with three places, larger amounts with four figures."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def table(rows: Iterable[Row], *, title: str = "Retention") -> Table:
    """The rows for a terminal."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title)
    for number, name in enumerate(HEADER):
        drawn.add_column(name, justify="left" if number < 4 else "right")
    for row in rows:
        drawn.add_row(*map(Text, cells(row)))  # as text, so that a name with [brackets] is no markup
    return drawn


def against_controls(rows: Sequence[Row], *, title: str = "Controls") -> Table:
    """Retention of the merged model and of every control, a column each, for a terminal; values without a parent's."""
    from rich.table import Table
    from rich.text import Text

    models = list(dict.fromkeys(row.control for row in rows))
    kept: dict[tuple[str, str, str], dict[str | None, str]] = {}
    controlled = {_place(row) for row in rows if row.control}
    for row in rows:
        if _place(row) in controlled:
            kept.setdefault(_place(row), {})[row.control] = _kept(row)
    drawn = Table(title=title)
    for name in ("parent", "data", "metric", *(model or "merged" for model in models)):
        drawn.add_column(name, justify="left" if name in ("parent", "data", "metric") else "right")
    for place, found in kept.items():
        drawn.add_row(*map(Text, place), *(found.get(model, "-") for model in models))
    return drawn


def _kept(row: Row) -> str:
    """The retention; the value itself of what no parent can do."""
    if row.retention is None:
        return number(row.merged_value) if row.parent_value is None else "-"
    return f"{100 * row.retention:.1f} %"


def _place(row: Row) -> tuple[str, str, str]:
    return row.parent, row.data, row.metric


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [HEADER, *map(cells, rows)]
    rule = "|" + " --- |" * 4 + " ---: |" * (len(HEADER) - 4)
    head, *body = ("| " + " | ".join(map(escape, line)) + " |" for line in lines)
    return "\n".join([head, rule, *body])


def escape(text: str) -> str:
    """Text as Markdown shows it, in one line: nothing in it is markup, HTML or the end of a table's cell."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#~!" else letter for letter in plain)
