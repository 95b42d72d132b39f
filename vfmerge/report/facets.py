"""What a report shows beside its main table: sizes, groups, corruptions, cost and losses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vfmerge.report import charts, headline, plots, terms
from vfmerge.report.charts import Pair, Panel
from vfmerge.report.plots import Series
from vfmerge.report.trace import Trace
from vfmerge.retention import Row, number

_GROUPS = 40  # at most so many lines in a chart by groups (chosen here)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """A row of the benchmark `efficiency`, as a person reads it. said: how much less the merged model needs."""

    name: str
    metric: str
    before: str
    after: str
    said: str


def sweeps(rows: Iterable[Row]) -> list[Panel]:
    """A chart for each metric of the benchmark `resolution`, whose metrics are named as `top1@96`."""
    lines: dict[tuple[str, str, str], dict[str | None, list[tuple[float, Row]]]] = {}
    for row in rows:
        name, _, size = row.metric.rpartition("@")
        sized = bool(name) and size.isascii() and size.isdecimal() and len(size) < 6 and int(size) > 0
        if row.benchmark == "resolution" and sized and terms.GROUP not in name:
            place = row.parent, row.data, name
            lines.setdefault(place, {}).setdefault(row.control, []).append((float(size), row))
    panels = []
    for (parent, data, name), of in lines.items():
        if None in of:
            title, subtitle = terms.begun(terms.metric(name)), f"{parent}, on {data}"
            chart = plots.sweep(f"{title}, {subtitle}", list(_series(of, parent)), unit="pixels a side")
            panels.append(Panel(title=title, subtitle=subtitle, chart=chart))
    return panels


def _series(of: Mapping[str | None, Sequence[tuple[float, Row]]], parent: str) -> Iterator[Series]:
    alone = sorted((size, row.parent_value) for size, row in of[None] if row.parent_value is not None)
    if alone:
        yield Series(name=f"{parent} alone", kind="parent", points=alone)
    for control, found in of.items():
        if terms.interpolated(control) is None:
            points = sorted((size, row.merged_value) for size, row in found)
            yield Series(name=terms.model(control), kind="control" if control else "merged", points=points)


def by_group(rows: Iterable[Row]) -> list[Panel]:
    """A chart for each metric taken group by group, `top1 group=NAME`: of many groups, those that kept least."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        name, _, group = row.metric.partition(f" {terms.GROUP}")
        if group and row.control is None and row.benchmark not in headline.SECTIONS:
            found.setdefault((row.parent, row.data, name), []).append(row)
    panels = []
    for (parent, data, name), alike in found.items():
        least = sorted(alike, key=lambda row: math.inf if row.retention is None else row.retention)[:_GROUPS]
        few = "" if len(alike) <= _GROUPS else f"; the {_GROUPS} of {len(alike)} groups that kept least"
        pairs = [_pair(row.metric.partition(terms.GROUP)[2], row) for row in alike if row in least]
        panels.append(_compared(terms.begun(terms.metric(name)), f"{parent}, on {data}{few}", pairs))
    return panels


def robustness(rows: Iterable[Row]) -> list[Panel]:
    """A chart for each metric of the benchmark `robustness`, whose metrics are named as `top1 gaussian_noise`."""
    found: dict[tuple[str, str, str], list[Pair]] = {}
    for row in rows:
        name, _, how = row.metric.rpartition(" ")
        if row.benchmark == "robustness" and row.control is None and name and terms.GROUP not in name:
            pairs = found.setdefault((row.parent, row.data, name), [])
            if how == "corrupted":
                pairs.insert(0, _pair("mean of all", row))
            else:
                pairs.append(_pair(how.replace("_", " "), row))
    return [
        _compared(terms.begun(terms.metric(name)), f"{parent}, on {data}", pairs)
        for (parent, data, name), pairs in found.items()
    ]


def _pair(name: str, row: Row) -> Pair:
    return Pair(name=name, parent=row.parent_value, merged=row.merged_value)


def _compared(title: str, subtitle: str, pairs: Sequence[Pair]) -> Panel:
    return Panel(title=title, subtitle=subtitle, chart=charts.dots(f"{title}, {subtitle}", pairs))


def costs(rows: Iterable[Row]) -> list[Cost]:
    """The rows of the benchmark `efficiency`; their retention is how many times less the merged model needs."""
    return [
        Cost(
            name=terms.begun(terms.metric(row.metric)),
            metric=row.metric,
            before="-" if row.parent_value is None else number(row.parent_value),
            after=number(row.merged_value),
            said=_less(row),
        )
        for row in rows
        if row.benchmark == "efficiency" and row.control is None
    ]


def training(trace: Trace | None) -> list[Panel]:
    """A chart for each loss."""
    if trace is None:
        return []
    made = ((name, plots.training(name, curves, trace)) for name, curves in trace.curves.items())
    return [Panel(title=name.replace("_", " "), subtitle="", chart=chart) for name, chart in made]


def _less(row: Row) -> str:
    """How many times less the merged model needs, or more, with the interval."""
    if row.retention is None or row.retention <= 0:
        return "-"
    if 0.995 < row.retention < 1.005:
        return "as much"
    less = row.retention > 1
    ratios = [value if less else 1 / value for value in (row.retention, row.ci_low, row.ci_high) if value]
    near = f" ({min(ratios[1:]):.2f} to {max(ratios[1:]):.2f})" if len(ratios) == 3 else ""
    return f"{ratios[0]:.2f} times {'less' if less else 'more'}{near}"
