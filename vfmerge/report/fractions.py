"""Retention against data: the runs of one recipe on shares of its data, in a table and as a page. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from vfmerge.report import axes, compare, headline, page, terms
from vfmerge.report.axes import Axis
from vfmerge.report.charts import WIDTH, Panel
from vfmerge.report.compare import Run
from vfmerge.report.drawing import Drawing, cut
from vfmerge.retention import Row

if TYPE_CHECKING:
    from rich.table import Table

Line = Sequence[tuple[float, Row]]
"""A measurement at each fraction that has it: (fraction, its row there), at least one."""

_COSTS = "efficiency"
_TINTS = ("first", "second", "third")  # a colour and a way of dashing each, of the page's style
_LEAST = 0.1  # of a chart's height in retention (chosen here): less is no fall, and must not look like one
_LEGEND = 18.0  # height of a line of it
_BESIDE, _ABREAST = 7.0, 30.0  # how far apart marks at one fraction stand at most, and all of them together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """The run on one share of the data.

    fraction: of what the recipe's own streams read. samples: how many were learnt from, by data set. steps: of the
    optimiser. run: what it kept; measurements without a retention, and what a model costs, are left out.
    """

    fraction: float
    samples: Mapping[str, int]
    steps: int
    run: Run

    @property
    def amount(self) -> str:
        """How much that is: samples of each data set, and steps."""
        read = ", ".join(f"{data}: {count:,}" for data, count in self.samples.items())
        return f"{read}; {self.steps:,} step{'s' if self.steps > 1 else ''}"


def read(folder: Path, *, fraction: float, samples: Mapping[str, int], steps: int) -> Point:
    """The point that a finished run makes. Raises InputError for a folder without a retention table."""
    run = compare.read_run(folder, name=_percent(fraction))
    kept = {place: row for place, row in run.rows.items() if row.retention is not None and row.benchmark != _COSTS}
    return Point(fraction=fraction, samples=samples, steps=steps, run=dataclasses.replace(run, rows=kept))


def table(points: Sequence[Point]) -> Table:
    """The retentions for a terminal, a column for each share of the data."""
    return compare.table([point.run for point in points])


def render(points: Sequence[Point], *, name: str) -> str:
    """A self-contained HTML page. points: from the least data to the most. name: of the recipe."""
    runs = [point.run for point in points]
    return page.render(
        "fractions.html.jinja",
        name=name,
        points=points,
        length=_length(points),
        panels=list(_panels(points)),
        lines=list(compare.grouped(runs)),
    )


def _length(points: Sequence[Point]) -> str:
    """What else differs between the runs: how often a sample is seen, or for how long one learns."""
    steps = [point.steps for point in points]
    if len(set(steps)) == 1:
        return f"Every run takes {steps[0]:,} steps: with less data, each sample is seen more often."
    return f"What lasts so many passes over the data ends sooner with less: {min(steps):,} to {max(steps):,} steps."


def _panels(points: Sequence[Point]) -> Iterator[Panel]:
    """A chart for each benchmark of a parent on a data set, a line for each metric that stands for all pictures."""
    together: dict[tuple[str, str, str], dict[str, list[tuple[float, Row]]]] = {}
    for point in points:
        for (parent, benchmark, data, metric), row in point.run.rows.items():
            if not headline.apart(row):
                lines = together.setdefault((parent, benchmark, data), {})
                lines.setdefault(metric, []).append((point.fraction, row))
    for (parent, benchmark, data), lines in together.items():
        title, subtitle = terms.benchmark(benchmark), f"{parent}, on {data}"
        yield Panel(title=title, subtitle=subtitle, chart=chart(f"{title}: {subtitle}", lines))


def chart(title: str, lines: Mapping[str, Line]) -> Markup:
    """Retention along the shares of the data, by their logarithm, with intervals; a line for each metric."""
    left, right, top = 48.0, WIDTH - 10, _LEGEND * len(lines) + 16
    bottom = top + 180
    fractions = sorted({fraction for line in lines.values() for fraction, _ in line})
    beside = min(_BESIDE, _ABREAST / len(lines))
    room = 12 + beside * (len(lines) - 1) / 2
    across = Axis(low=fractions[0], high=fractions[-1], start=left + room, end=right - room, log=True)
    up = _up(lines, start=bottom, end=top)
    told = "; ".join(
        f"{terms.metric(metric)} {', '.join(_said(*each) for each in line)}" for metric, line in lines.items()
    )
    picture = Drawing(WIDTH, bottom + 38, title=title, description=f"Retention: {told} of the data.")
    _axes(picture, across, up, fractions, left=left, right=right)
    for place, (metric, line) in enumerate(lines.items()):
        aside = beside * (place - (len(lines) - 1) / 2)
        _line(picture, line, across, up, name=terms.metric(metric), place=place, aside=aside)
        _legend(picture, terms.metric(metric), place=place, left=left)
    return picture.markup()


def _up(lines: Mapping[str, Line], *, start: float, end: float) -> Axis:
    """From the least retention or end of an interval to the most, 100 % among them."""
    held = [1.0]
    for line in lines.values():
        for _, row in line:
            held += [value for value in (row.retention, row.ci_low, row.ci_high) if value is not None]
    return axes.near(min(*held, max(held) - _LEAST), max(held), start=start, end=end)


def _axes(picture: Drawing, across: Axis, up: Axis, fractions: Sequence[float], *, left: float, right: float) -> None:
    for mark in up.marks:
        picture.line((left, up(mark)), (right, up(mark)), "grid")
        picture.text((left - 6, up(mark) + 4), _percent(mark), "tick", anchor="end")
    picture.line((left, up(1)), (right, up(1)), "whole")
    for mark in axes.spread([fractions[0], fractions[-1], *fractions], across, least=44):
        picture.text((across(mark), up.start + 16), _percent(mark), "tick", anchor="middle")
    middle = (left + right) / 2
    picture.text((middle, up.start + 33), "share of the data, log scale", "tick", anchor="middle")


def _line(picture: Drawing, line: Line, across: Axis, up: Axis, *, name: str, place: int, aside: float) -> None:
    """One metric: its intervals, the line through its marks, and the marks, all a little `aside` of the fraction."""
    tint = _TINTS[place % len(_TINTS)]
    at = [(across(fraction) + aside, up(row.retention)) for fraction, row in line if row.retention is not None]
    for (x, _), (_, row) in zip(at, line, strict=True):
        if row.ci_low is not None and row.ci_high is not None:
            low, high = up(row.ci_low), up(row.ci_high)
            picture.line((x, low), (x, high), f"spread {tint}")
            for end in (low, high):
                picture.line((x - 3, end), (x + 3, end), f"spread {tint}")
    picture.path(at, f"curve {tint}")
    for point, each in zip(at, line, strict=True):
        _mark(picture, point, place=place, label=f"{name} {_said(*each)}")


def _legend(picture: Drawing, name: str, *, place: int, left: float) -> None:
    middle = _LEGEND * (place + 0.5)
    picture.path([(left, middle), (left + 26, middle)], f"curve {_TINTS[place % len(_TINTS)]}")
    _mark(picture, (left + 13, middle), place=place)
    picture.text((left + 34, middle + 4), cut(name, width=WIDTH - left - 34))


def _mark(picture: Drawing, at: tuple[float, float], *, place: int, label: str = "") -> None:
    """The mark of a line: with its colour, one of nine that differ in their shape or their dashes."""
    count = len(_TINTS)
    kind, (x, y) = f"mark {_TINTS[place % count]}", at
    match (place + place // count) % count:
        case 0:
            picture.dot(at, kind, label=label)
        case 1:
            picture.diamond(at, kind, radius=5.5, label=label)
        case _:
            picture.box((x - 4, y - 4), 8, 8, kind, label=label)


def _said(fraction: float, row: Row) -> str:
    return f"{terms.kept(row)} at {_percent(fraction)}"


def _percent(share: float) -> str:
    """A share in per cent, with no more places than it has."""
    return f"{100 * share:.4g} %"
