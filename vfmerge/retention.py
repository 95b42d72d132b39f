"""Retention: what a merged model kept of each parent, measured by the same benchmarks on the same data.

Imports no torch until it measures.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vfmerge import commit, options, plugins
from vfmerge.benchmarks.benchmark import Benchmark, Score
from vfmerge.errors import InputError, one_line
from vfmerge.problem import suggestion

if TYPE_CHECKING:
    from rich.table import Table

    from vfmerge.capability import Capability
    from vfmerge.data.source import Source
    from vfmerge.recipe import Evaluation

Progress = Callable[[str, int, int], None]
"""Told what is measured, how many pictures are done, and of how many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of one parent's skill, in the parent and in the merged model; values in 0..1, larger is better.

    parent_value: none where the parent was not there to be measured.
    retention: merged_value / parent_value; none where that has no meaning. n: pictures or masks judged.
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


def quiet(title: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def prepare(
    evaluate: Mapping[str, Evaluation], *, tasks: Collection[str], sources: Mapping[str, Source]
) -> dict[str, Benchmark]:
    """The benchmarks of a recipe's `evaluate`, checked; reads no picture and imports no torch.

    Raises InputError, naming the key, for an unknown benchmark or option, a role that no parent fills, or data that
    lacks what the benchmark needs.
    """
    return {name: _make(name, evaluation, tasks, sources) for name, evaluation in evaluate.items()}


def measure_all(
    evaluate: Mapping[str, Evaluation],
    parents: Mapping[str, Capability],
    merged: Mapping[str, Capability],
    sources: Mapping[str, Source],
    *,
    progress: Progress = quiet,
) -> list[Row]:
    """Every benchmark of a recipe on each parent alone and on the merged model: the rows of the retention table.

    parents: capabilities by task, possibly without some or all. merged: all of them. Raises InputError as `prepare`
    does, and for data that cannot be used.
    """
    rows = []
    for name, benchmark in prepare(evaluate, tasks=merged.keys(), sources=sources).items():
        evaluation = evaluate[name]
        measure = functools.partial(_measure, name, benchmark, sources[evaluation.data], progress)
        roles = [task for task in dict.fromkeys(benchmark.tasks().values()) if task in parents]
        alone = [score for task in roles for score in measure({task: parents[task]}, f"{task} alone")]
        of_parents = {(score.task, score.metric): score for score in alone}
        for score in measure(merged, "merged"):
            parent = of_parents.get((score.task, score.against or score.metric))
            rows.append(compare(parent, score, evaluation=evaluation, capability=merged[score.task].name))
    return rows


def compare(parent: Score | None, merged: Score, *, evaluation: Evaluation, capability: str) -> Row:
    """One row: the merged model's score beside the parent's that it is compared with."""
    before = None if parent is None else parent.value
    return Row(
        parent=merged.task,
        capability=capability,
        benchmark=evaluation.benchmark,
        data=evaluation.data,
        metric=merged.metric,
        parent_value=before,
        merged_value=merged.value,
        retention=merged.value / before if before else None,
        n=merged.n,
    )


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write `retention.json`: a list of objects with the fields of `Row`."""
    commit.write_text(path, json.dumps([dataclasses.asdict(row) for row in rows], indent=2, allow_nan=False) + "\n")


def read(path: Path) -> list[Row]:
    """What `write` wrote."""
    return [Row(**row) for row in json.loads(path.read_text())]


HEADER = ("parent", "benchmark", "data", "metric", "parent's", "merged", "retention", "n")


def cells(row: Row) -> tuple[str, ...]:
    """A row as a person reads it, under HEADER."""
    before = "-" if row.parent_value is None else f"{row.parent_value:.3f}"
    kept = "-" if row.retention is None else f"{100 * row.retention:.1f} %"
    return (row.parent, row.benchmark, row.data, row.metric, before, f"{row.merged_value:.3f}", kept, str(row.n))


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


def _make(name: str, evaluation: Evaluation, tasks: Collection[str], sources: Mapping[str, Source]) -> Benchmark:
    where = f"evaluate.{name}"
    kind = plugins.find("benchmarks", evaluation.benchmark)
    benchmark = kind(**options.check_options(kind, evaluation.options, where=where))
    assert isinstance(benchmark, Benchmark)
    for role, task in benchmark.tasks().items():
        if task not in tasks:
            raise InputError(one_line(f"{where}.{role}: no parent is called {task!r}; {suggestion(task, tasks)}"))
    if evaluation.data not in sources:
        remedy = suggestion(evaluation.data, sources)
        raise InputError(one_line(f"{where}.data: no data set is called {evaluation.data!r}; {remedy}"))
    if lack := benchmark.lacks(sources[evaluation.data]):
        raise InputError(one_line(f"{where}.data: {evaluation.data!r} has no {lack}; give a data set that has"))
    return benchmark


def _measure(
    name: str, benchmark: Benchmark, source: Source, progress: Progress, model: Mapping[str, Capability], who: str
) -> list[Score]:
    try:
        return benchmark.measure(model, source, progress=functools.partial(progress, f"{name}: {who}"))
    except InputError as error:
        raise InputError(one_line(f"evaluate.{name}: {error}")) from error
