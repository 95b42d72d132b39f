"""The parts of a report, made from the rows of a retention table: what its page then sets in type."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from vfmerge.report import charts, claims, headline, plots, recognition, terms
from vfmerge.report.charts import Kind, Panel, Value
from vfmerge.retention import Row, number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure in large type. kind: `merged` or `control`."""

    figure: str
    label: str
    note: str
    kind: Kind = "merged"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of one parent, each with the bar of its retention, if it has one. role: of the parent, or empty."""

    parent: str
    role: str
    rows: list[tuple[Row, Markup]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """All values: a line for each measurement, of its parent, the merged model, and each control."""

    controls: list[str]
    lines: list[tuple[Row, list[float | None]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corner:
    """Two retentions at once. first, second: the parents. lines: name and both retentions of each model."""

    first: str
    second: str
    chart: Markup
    lines: list[tuple[str, float, float]]


def tiles(rows: Sequence[Row], *, base: str | None) -> list[Tile]:
    """What was kept of each parent, how well pixels and things are named, and what is left without rehearsal."""
    found = [row for parent in headline.parents(rows, base=base) if (row := headline.headline(rows, parent))]
    made = [
        Tile(figure=terms.percent(row.retention), label=f"of {row.parent} kept", note=_noted(row))
        for row in found
        if row.retention is not None
    ]
    for row in rows:
        if row.control is None and row.metric == "miou_two_heads" and row.parent_value and row.retention:
            note = f"mIoU {number(row.merged_value)} and {number(row.parent_value)} on {row.data}"
            label = f"as well as {row.parent} alone at labelling pixels"
            made.append(Tile(figure=f"{terms.times(row.retention)} \N{MULTIPLICATION SIGN}", label=label, note=note))
            break
    if named := recognition.best_named(rows):
        made.append(_named(*named))
    for row in found:
        naive = headline.control_of(rows, row, "naive")
        if row.parent == base and naive is not None and naive.retention is not None:
            label = f"of {row.parent} left without rehearsal"
            made.append(Tile(figure=terms.percent(naive.retention), label=label, note=_noted(naive), kind="control"))
    return made


def _named(row: Row, baseline: Row | None) -> Tile:
    """How many things are named right, of novel classes where there are some, and how many by the better baseline."""
    classes = "of novel things" if row.metric.endswith("_novel") else "of things"
    beside = f"; {terms.model(baseline.control)}: {terms.percent(baseline.merged_value)}" if baseline else ""
    asked = terms.PROMPTS[row.metric.partition("_")[0]]
    note = f"from {asked} on {row.data}{beside}"
    return Tile(figure=terms.percent(row.merged_value), label=f"{classes} named right", note=note)


def groups(rows: Iterable[Row], *, base: str | None) -> list[Group]:
    """The retention table by parent, the base first; without what has a section of its own."""
    shown = [row for row in rows if row.control is None and not headline.apart(row)]
    parents = sorted(dict.fromkeys(row.parent for row in shown), key=lambda name: name != base)
    return [
        Group(
            parent=parent,
            role="the base: it lent the trunk" if parent == base else "",
            rows=[
                (row, Markup() if row.retention is None else charts.kept(row)) for row in shown if row.parent == parent
            ],
        )
        for parent in parents
    ]


def sides(rows: Sequence[Row], *, base: str | None) -> list[Panel]:
    """A chart for each measurement; of several parents in one, where the merged model has one value for all."""
    together: dict[tuple[str, str, str, float], list[Row]] = {}
    for group in groups(rows, base=base):
        for row in (row for row, _ in group.rows if row.benchmark != headline.RECOGNITION):
            together.setdefault((row.benchmark, row.data, row.metric, row.merged_value), []).append(row)
    panels = []
    for alike in together.values():
        parents = terms.listed(list(dict.fromkeys(row.parent for row in alike)))
        title = terms.measured(alike[0])
        subtitle = f"{parents}, on {alike[0].data}"
        chart = charts.bars(f"{title}, {subtitle}", list(_values(rows, alike)))
        panels.append(Panel(title=title, subtitle=subtitle, chart=chart))
    return panels


def _values(rows: Iterable[Row], alike: Sequence[Row]) -> Iterator[Value]:
    """The parents alone, the merged model, and the controls but for interpolations, which have a chart of their own."""
    for row in alike:
        if row.parent_value is not None:
            yield Value(name=f"{row.parent} alone", kind="parent", value=row.parent_value)
    first = alike[0]
    yield Value(name="merged", kind="merged", value=first.merged_value)
    place = first.parent, first.benchmark, first.data
    metrics = {first.metric, "miou_cascade"} if first.metric == "miou_two_heads" else {first.metric}
    for row in rows:
        here = row.metric in metrics and (row.parent, row.benchmark, row.data) == place
        if row.control and here and terms.interpolated(row.control) is None:
            yield Value(name=terms.model(row.control), kind="control", value=row.merged_value)


def matrix(rows: Sequence[Row]) -> Matrix:
    """Every measurement but those with a section of their own, and every control that was measured."""
    shown = [row for row in rows if not headline.apart(row) and row.benchmark != headline.RECOGNITION]
    controls = list(dict.fromkeys(row.control for row in shown if row.control is not None))
    places: dict[tuple[str, ...], Row] = {}
    values: dict[tuple[str, ...], dict[str | None, float]] = {}
    for row in shown:
        place = row.parent, row.benchmark, row.data, row.metric
        places.setdefault(place, row)
        values.setdefault(place, {}).setdefault(row.control, row.merged_value)
    lines = [
        (row, [row.parent_value, *(values[place].get(control) for control in (None, *controls))])
        for place, row in places.items()
    ]
    return Matrix(controls=controls, lines=lines)


def corner(rows: Sequence[Row], *, base: str | None) -> Corner | None:
    """The two foremost retentions of the merged model and of every control; none without a control."""
    found = claims.corner(rows, base=base)
    if found is None:
        return None
    first, second = found
    curve = claims.curve(rows, first, second)
    others = [mark for mark in claims.marks(rows, first, second) if mark not in curve]
    if not curve and not others:
        return None
    assert first.retention is not None
    assert second.retention is not None
    lines = [(terms.model(mark.control), mark.first, mark.second) for mark in (*curve, *others)]
    return Corner(
        first=first.parent,
        second=second.parent,
        chart=plots.corner(first, second, curve, others),
        lines=[("merged", first.retention, second.retention), *lines],
    )


def _noted(row: Row) -> str:
    near = terms.interval(row)
    return f"{terms.metric(row.metric)} on {row.data}" + (f"; 95 % interval {near}" if near else "")
