"""Charts with two axes, as inline SVG: the corner of two retentions, values along an axis, and losses over steps.

Kinds of marks and lengths are as in `charts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from vfmerge.report import axes
from vfmerge.report.axes import Axis
from vfmerge.report.charts import WIDTH, Kind
from vfmerge.report.claims import Mark
from vfmerge.report.drawing import Drawing, Point, cut, overlap, span
from vfmerge.report.headline import KEPT
from vfmerge.report.terms import model, percent
from vfmerge.report.trace import Curve, Trace
from vfmerge.retention import Row, number

_SIZE = 11.0  # of the type of names beside marks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """A model's values along an axis: (place on the axis, value), at least one."""

    name: str
    kind: Kind
    points: Sequence[Point]


def corner(first: Row, second: Row, curve: Sequence[Mark], others: Sequence[Mark]) -> Markup:
    """What the merged model and the controls keep of two parents, one along each axis; the best place is 1, 1.

    first, second: the merged model's foremost rows, both with a retention. curve: interpolations, joined by a line.
    """
    assert first.retention is not None
    assert second.retention is not None
    left, right, top, bottom = 46.0, WIDTH - 6, 22.0, 306.0
    across = axes.shares([first.retention, *(mark.first for mark in (*curve, *others))], start=left, end=right)
    up = axes.shares([second.retention, *(mark.second for mark in (*curve, *others))], start=bottom, end=top)
    told = "; ".join(
        f"{name} {percent(x)} of {first.parent}, {percent(y)} of {second.parent}"
        for name, x, y in [
            ("merged", first.retention, second.retention),
            *((model(mark.control), mark.first, mark.second) for mark in (*curve, *others)),
        ]
    )
    picture = Drawing(WIDTH, bottom + 38, title="Retention of two parents at once", description=f"{told}.")
    _grid(picture, across, up)
    picture.box((across(KEPT), up(up.high)), right - across(KEPT), up(KEPT) - up(up.high), "goal")
    picture.text(((left + right) / 2, bottom + 33), f"retention of {first.parent}", "tick", anchor="middle")
    picture.text((left, top - 9), f"retention of {second.parent}", "tick")
    picture.path([(across(mark.first), up(mark.second)) for mark in curve], "curve control")
    names: dict[Point, str] = {}
    for mark in (*curve, *others):
        at = across(mark.first), up(mark.second)
        picture.dot(at, "mark control" if mark in curve else "mark open control", label=model(mark.control))
        names[at] = f"mix {100 * mark.share:g} %" if mark.share not in (None, 1.0) else model(mark.control)
    place = across(first.retention), up(second.retention)
    picture.diamond(place, "mark merged", label="merged")
    _name(picture, {place: "merged"} | names, inside=(left, top, right, bottom), strong=place)
    return picture.markup()


def sweep(title: str, series: Sequence[Series], *, unit: str) -> Markup:
    """Values along an axis of sizes, a line for each model, named at its right end. unit: of the axis, in words."""
    left, right, top, bottom = 40.0, WIDTH - 76, 12.0, 196.0
    places = sorted({x for each in series for x, _ in each.points})
    across = Axis(low=places[0], high=places[-1], start=left + 10, end=right - 8, log=True)
    up = axes.from_zero([y for each in series for _, y in each.points], start=bottom, end=top)
    told = "; ".join(f"{each.name} " + ", ".join(f"{number(y)} at {x:g}" for x, y in each.points) for each in series)
    picture = Drawing(WIDTH, bottom + 38, title=title, description=f"{told} {unit}.")
    _rungs(picture, up, left=left, right=right)
    for mark in axes.spread([places[0], places[-1], *places], across, least=26):
        picture.text((across(mark), bottom + 16), f"{mark:g}", "tick", anchor="middle")
    picture.text(((left + right) / 2, bottom + 33), unit, "tick", anchor="middle")
    ends = axes.apart({each.name: up(each.points[-1][1]) for each in series}, least=14)
    for each in sorted(series, key=lambda one: ("control", "parent", "merged").index(one.kind)):
        at = [(across(x), up(y)) for x, y in each.points]
        picture.path(at, f"curve {each.kind}")
        for point, (x, y) in zip(at, each.points, strict=True):
            picture.dot(point, f"mark {each.kind}", radius=3.5, label=f"{each.name} at {x:g}: {number(y)}")
        picture.text((right + 4, ends[each.name] + 4), cut(each.name, width=WIDTH - right - 4), each.kind)
    return picture.markup()


def training(name: str, curves: Sequence[Curve], trace: Trace) -> Markup:
    """One loss over all steps: its mean in each bin over a band from the least to the most, stage by stage."""
    left, right, top, bottom = 44.0, WIDTH - 8, 26.0, 170.0
    first, last = min(begin for begin, _ in trace.stages.values()), max(end for _, end in trace.stages.values())
    across = Axis(low=first, high=max(last, first + 1), start=left, end=right)
    low, high = min(each.mean.min() for each in curves), max(each.high.max() for each in curves)
    up = axes.fitting(float(low), float(high), start=bottom, end=top)
    told = "; ".join(f"{each.stage}: from {number(each.mean[0])} to {number(each.mean[-1])}" for each in curves)
    picture = Drawing(WIDTH, bottom + 36, title=name, description=f"Over {last - first + 1:,} steps, {told}.")
    _rungs(picture, up, left=left, right=right)
    _stages(picture, trace, across, top=top, bottom=bottom)
    for each in curves:
        picture.path(
            [*_joined(each, each.high, across, up), *_joined(each, each.low, across, up)[::-1]], "band", closed=True
        )
        picture.path(_joined(each, each.mean, across, up), "curve merged")
    for mark in axes.spread(axes.round_steps(first, last), across, least=40):
        picture.text((across(mark), bottom + 16), axes.plain(mark), "tick", anchor="middle")
    picture.text(((left + right) / 2, bottom + 32), "step" + ", log scale" * up.log, "tick", anchor="middle")
    return picture.markup()


def _stages(picture: Drawing, trace: Trace, across: Axis, *, top: float, bottom: float) -> None:
    """Where each stage begins, and its name; the last, if it is short, is written to the left of its end."""
    free = across.start
    for stage, (begin, end) in trace.stages.items():
        picture.line((across(begin), top - 20), (across(begin), bottom), "divide")
        left, room = across(begin) + 4, across(end) - across(begin) - 6
        if end == across.high and room < span(stage, size=_SIZE):
            left = max(across.end - span(stage, size=_SIZE), free + 8)
            room = across.end - left + 1
        if room > 24:
            name = cut(stage, width=room, size=_SIZE)
            picture.text((left, top - 11), name, "tick")
            free = left + span(name, size=_SIZE)


def _joined(curve: Curve, values: Iterable[float], across: Axis, up: Axis) -> list[Point]:
    return [(across(x), up(y)) for x, y in zip(curve.steps, values, strict=True)]


def _rungs(picture: Drawing, up: Axis, *, left: float, right: float) -> None:
    for mark in up.marks:
        picture.line((left, up(mark)), (right, up(mark)), "grid")
        picture.text((left - 6, up(mark) + 4), axes.plain(mark), "tick", anchor="end")


def _grid(picture: Drawing, across: Axis, up: Axis) -> None:
    """Retentions along both axes, in per cent, and lines at 100 %."""
    for mark in across.marks:
        picture.line((across(mark), up.start), (across(mark), up.end), "grid")
        picture.text((across(mark), up.start + 16), f"{100 * mark:g} %", "tick", anchor="middle")
    for mark in up.marks:
        picture.line((across.start, up(mark)), (across.end, up(mark)), "grid")
        picture.text((across.start - 6, up(mark) + 4), f"{100 * mark:g} %", "tick", anchor="end")
    picture.line((across(1), up.start), (across(1), up.end), "whole")
    picture.line((across.start, up(1)), (across.end, up(1)), "whole")


def _name(picture: Drawing, names: dict[Point, str], *, inside: Sequence[float], strong: Point) -> None:
    """Write each name where it covers no mark and no other name; where there is no such place, not at all."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in names]
    for (x, y), name in names.items():
        wide = span(name, size=_SIZE) * (1.25 if (x, y) == strong else 1)  # bold, and a point larger
        for dx, dy in (
            (9, 4),
            (-9 - wide, 4),
            (-wide / 2, -10),
            (-wide / 2, 18),
            (9, -6),
            (9, 15),
            (-9 - wide, 15),
            (-9 - wide, -6),
        ):
            box = (x + dx, y + dy - 9, x + dx + wide, y + dy + 3)
            within = box[0] >= inside[0] and box[1] >= inside[1] and box[2] <= inside[2] and box[3] <= inside[3]
            if within and not any(overlap(box, other) for other in taken):
                picture.text((box[0], y + dy), name, "merged" if (x, y) == strong else "control")
                taken.append(box)
                break
