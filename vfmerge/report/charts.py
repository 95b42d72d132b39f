"""Charts that set models side by side, as inline SVG: each says in words what it shows, and names its marks itself.

Kinds of marks are `parent`, `merged` and `control`; the page's style gives them colours. Lengths are in units of the
view box, WIDTH across, about a pixel each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup

from vfmerge.report import axes
from vfmerge.report.axes import Axis
from vfmerge.report.drawing import Drawing, cut
from vfmerge.report.terms import percent
from vfmerge.retention import Row, number

Kind = Literal["parent", "merged", "control"]

WIDTH = 360.0
_NAMES = 124.0  # of which are for names, left of bars and dots
_FULL = 1.25  # retention at the right end of a table's bar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """A model's value of one metric."""

    name: str
    kind: Kind
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A parent's and the merged model's value of one metric; the parent's may be unknown."""

    name: str
    parent: float | None
    merged: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart under its title."""

    title: str
    subtitle: str
    chart: Markup


def bars(title: str, values: Sequence[Value]) -> Markup:
    """A horizontal bar for each model, from zero; a thin line carries each parent's value down through the others."""
    row = 24.0
    shares = all(0 <= each.value <= 1 for each in values)  # all of them to one scale, so that charts can be compared
    axis = axes.from_zero([*(each.value for each in values), *([1.0] if shares else [])], start=_NAMES, end=WIDTH - 50)
    told = ", ".join(f"{each.name} {number(each.value)}" for each in values)
    picture = Drawing(WIDTH, row * len(values) + 4, title=title, description=f"{told}.")
    for each in values:
        if each.kind == "parent":
            picture.line((axis(each.value), 2), (axis(each.value), picture.height - 2), "guide")
    for place, each in enumerate(values):
        middle, end = row * (place + 0.5) + 2, max(axis(each.value), axis(0))
        picture.text((_NAMES - 9, middle + 4), cut(each.name, width=_NAMES - 9), each.kind, anchor="end")
        picture.box(
            (min(axis(0), axis(each.value)), middle - 6), abs(axis(each.value) - axis(0)), 12, f"bar {each.kind}"
        )
        picture.text((end + 6, middle + 4), number(each.value), f"value {each.kind}")
    picture.line((axis(0), 2), (axis(0), picture.height - 2), "axis")
    return picture.markup()


def dots(title: str, pairs: Sequence[Pair]) -> Markup:
    """A line for each metric with two dots on it, the parent's and the merged model's, and a legend above."""
    row, top = 22.0, 46.0
    axis = axes.from_zero(
        [value for pair in pairs for value in (pair.parent, pair.merged) if value is not None],
        start=_NAMES,
        end=WIDTH - 14,
    )
    told = "; ".join(f"{p.name} {'-' if p.parent is None else number(p.parent)} and {number(p.merged)}" for p in pairs)
    picture = Drawing(WIDTH, top + row * len(pairs), title=title, description=f"Parent and merged: {told}.")
    _legend(picture)
    for mark in axis.marks:
        picture.line((axis(mark), top - 8), (axis(mark), picture.height), "grid")
        picture.text((axis(mark), top - 13), axes.plain(mark), "tick", anchor="middle")
    for place, pair in enumerate(pairs):
        _pair(picture, pair, axis, middle=top + row * (place + 0.5) - 4)
    return picture.markup()


def kept(row: Row) -> Markup:
    """The bar of a table: retention from zero, its interval, and a line at 100 %; an arrow where it goes further."""
    assert row.retention is not None
    width, middle = 132.0, 10.0
    axis = Axis(low=0, high=_FULL, start=1, end=width - 8)
    told = f"retention {percent(row.retention)}"
    picture = Drawing(width, 2 * middle, title=told, description=told)
    picture.box((axis(0), middle - 4), axis(row.retention) - axis(0), 8, "bar soft")
    picture.line((axis(1), 1), (axis(1), 2 * middle - 1), "whole")
    if row.retention > _FULL:
        tip = width - 1
        picture.path([(tip - 7, middle - 6), (tip, middle), (tip - 7, middle + 6)], "arrow", closed=True)
    elif row.ci_low is not None and row.ci_high is not None:
        picture.line((axis(row.ci_low), middle), (axis(row.ci_high), middle), "spread")
        for end in (axis(row.ci_low), axis(row.ci_high)):
            picture.line((end, middle - 3), (end, middle + 3), "spread")
    return picture.markup()


def _legend(picture: Drawing) -> None:
    for place, kind in enumerate(("parent", "merged")):
        picture.dot((_NAMES + 5 + 74 * place, 9), f"mark {kind}")
        picture.text((_NAMES + 14 + 74 * place, 13), kind, kind)


def _pair(picture: Drawing, pair: Pair, axis: Axis, *, middle: float) -> None:
    picture.text((_NAMES - 10, middle + 4), cut(pair.name, width=_NAMES - 10), anchor="end")
    if pair.parent is not None:
        picture.line((axis(pair.parent), middle), (axis(pair.merged), middle), "link")
        picture.dot((axis(pair.parent), middle), "mark parent", label=f"parent {number(pair.parent)}")
    picture.dot((axis(pair.merged), middle), "mark merged", label=f"merged {number(pair.merged)}")
