"""Recognition in a report: a merged model beside its parents one after the other, and beside itself with less.

So do tables 1, 6 and 7 of Open-Vocabulary SAM (arXiv 2401.02955) set models against each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from vfmerge.report import headline, terms
from vfmerge.report.charts import Kind
from vfmerge.retention import Row, number

BASELINES = ("image_crop", "feature_crop")
"""The controls that are made of the parents alone."""

_SKILLS = {"iou": "IoU", "accuracy": "named right"}
_GROUPS = {"_base": "base", "_novel": "novel", "": "all"}
_ORDER = {"image_crop": 0, "feature_crop": 1, "neck_only": 2, "no_fusion": 4, None: 5}
_BETWEEN, _AFTER = 3, 6  # where further tasks of the merged model stand, and controls that were trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure as a person reads it, or a dash. best: whether none in its column is better. first: of its skill."""

    text: str
    best: bool
    first: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One model. code: its name in files, where it is another than a person reads."""

    name: str
    code: str
    kind: Kind
    cells: list[Cell]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sheet:
    """What all models answer to one kind of prompts on one data set.

    title: says which, and how many things were asked for. spans: skills, each with how many columns it has.
    columns: groups of classes.
    """

    title: str
    spans: list[tuple[str, int]]
    columns: list[str]
    lines: list[Line]


def sheets(rows: Iterable[Row]) -> list[Sheet]:
    """A table for each data set and kind of prompts of the benchmark `recognition`."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        prompts = row.metric.partition("_")[0]
        if row.benchmark == headline.RECOGNITION and row.metric in _metrics(prompts):
            found.setdefault((row.data, prompts), []).append(row)
    return [_sheet(some, data=data, prompts=prompts) for (data, prompts), some in found.items()]


def best_named(rows: Sequence[Row]) -> tuple[Row, Row | None] | None:
    """The merged model's foremost accuracy, of novel classes where there are some, and the better baseline's."""
    own = [row for row in rows if row.benchmark == headline.RECOGNITION and row.control is None]
    for metric in (f"{prompts}_accuracy{group}" for group in ("_novel", "") for prompts in terms.PROMPTS):
        for row in own:
            if row.metric == metric:
                others = (headline.control_of(rows, row, name) for name in BASELINES)
                known = [other for other in others if other is not None]
                return row, max(known, key=lambda other: other.merged_value, default=None)
    return None


def _metrics(prompts: str) -> dict[str, tuple[str, str]]:
    """The metrics of a kind of prompts, each with its skill and its group of classes; none of what is no such kind."""
    if prompts not in terms.PROMPTS:
        return {}
    return {f"{prompts}_{skill}{group}": (skill, group) for skill in _SKILLS for group in _GROUPS}


def _sheet(rows: Sequence[Row], *, data: str, prompts: str) -> Sheet:
    there = {row.metric for row in rows}
    columns = {metric: place for metric, place in _metrics(prompts).items() if metric in there}
    models: dict[str | None, dict[str, float]] = {}
    alone: dict[str, float] = {}
    for row in rows:
        models.setdefault(row.control, {}).setdefault(row.metric, row.merged_value)
        if row.parent_value is not None:
            alone.setdefault(row.metric, row.parent_value)
    best = {
        metric: max(values[metric] for values in (alone, *models.values()) if metric in values) for metric in columns
    }
    firsts = {skill: metric for metric, (skill, _) in reversed(columns.items())}.values()

    def line(name: str, code: str, kind: Kind, values: Mapping[str, float]) -> Line:
        cells = [_cell(values.get(metric), best[metric], first=metric in firsts) for metric in columns]
        return Line(name=name, code=code, kind=kind, cells=cells)

    parent = next((row.parent for row in rows if row.parent_value is not None), None)
    lines = [] if parent is None else [line(f"{parent} alone", "", "parent", alone)]
    lines += [
        line(terms.model(control), control or "", "control" if control else "merged", models[control])
        for control in _ordered(models)
    ]
    return Sheet(
        title=f"From {terms.PROMPTS[prompts]}, {_judged(rows, prompts, data)}",
        spans=[(name, sum(each == skill for each, _ in columns.values())) for skill, name in _SKILLS.items()],
        columns=[_GROUPS[group] for _, group in columns.values()],
        lines=lines,
    )


def _cell(value: float | None, best: float, *, first: bool) -> Cell:
    """Best is what reads the same as the best: no digit that is not shown decides."""
    text = "\N{EN DASH}" if value is None else number(value)
    return Cell(text=text, best=text == number(best), first=first)


def _ordered(models: Iterable[str | None]) -> list[str | None]:
    """What is made of less before what is made of more: baselines, ablations, the merged model; then other controls."""
    return sorted(models, key=lambda name: _AFTER if terms.of_recipe(name) else _ORDER.get(name, _BETWEEN))


def _judged(rows: Iterable[Row], prompts: str, data: str) -> str:
    """How many things were asked for, and of which data."""
    counts = {row.metric.removeprefix(f"{prompts}_iou"): row.n for row in rows}
    novel = f", {counts['_novel']:,} of them of novel classes" if "_novel" in counts else ""
    return f"{counts.get('', 0):,} things of {data}{novel}"
