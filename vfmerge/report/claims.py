"""The claims of SAM-CLIP (Wang et al., CVPR 2024, arXiv:2310.15308v4), each held against what a merge measured.

A claim holds where its figures bear it out beyond their 95 % intervals. It is open where they bear it out, but the
intervals leave room for the opposite. Where no intervals are known, the figures decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

from vfmerge.report import headline, terms
from vfmerge.report.headline import KEPT
from vfmerge.retention import Row, number

Verdict = Literal["holds", "does not hold", "open", "not measured"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value behind a claim. name: whose. value: as a person reads it. interval: of 95 %, or empty."""

    name: str
    value: str
    interval: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim on one data set.

    text: what is claimed. paper: the paper's own figures, and where they are. verdict: whether it holds here.
    data: what it was measured on, or empty. figures: what decided. remark: what else one should know, or empty.
    """

    text: str
    paper: str
    verdict: Verdict
    data: str = ""
    figures: tuple[Figure, ...] = ()
    remark: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
    """A method's paper, and what it claims. link: where it is. claims: what several data sets say to one together."""

    name: str
    link: str
    claims: list[list[Claim]]


def claims(rows: Sequence[Row], *, base: str | None = None) -> list[Claim]:
    """All claims in the paper's order, each at least once; where several data sets speak to one, once for each.

    base: the parent that lent its trunk; none takes the first promptable one, which is the paper's.
    """
    base = base or next((row.parent for row in rows if row.capability == "promptable"), None)
    return [
        _kept(rows, base),
        *_above_dense(rows),
        *_above_cascade(rows),
        *_above_head(rows),
        _forgets(rows, base),
        _neither_corner(rows, base),
        *_best_trunk(rows),
    ]


def _kept(rows: Sequence[Row], base: str | None) -> Claim:
    claim = Claim(
        text=f"Every parent's skill is kept: retention of at least {100 * KEPT:.0f} % of its foremost metric.",
        paper="COCO mAP 40.9 of SAM's 41.2, ImageNet 72.4 of CLIP's 73.5 (table 1)",
        verdict="not measured",
    )
    found = [row for parent in headline.parents(rows, base=base) if (row := headline.headline(rows, parent))]
    if not found:
        return claim
    figures = tuple(share(f"{row.parent}, {terms.metric(row.metric)}", row) for row in found)
    verdict = worst([at_least(row, KEPT) for row in found])
    return dataclasses.replace(claim, figures=figures, verdict=verdict, data=_where(found))


def _above_dense(rows: Sequence[Row]) -> list[Claim]:
    """Both heads against what the text-aligned parent says of its own cells."""
    claim = Claim(
        text="The merged model labels pixels better than the text-aligned parent alone.",
        paper="VOC mIoU 60.6, the best earlier model 53.8 (table 2)",
        verdict="not measured",
    )
    made = []
    for row in _merged(rows, "miou_two_heads"):
        if row.parent_value is not None:
            figures = _pair("merged, both heads", row.merged_value, f"{row.parent} alone", row.parent_value)
            made.append(dataclasses.replace(claim, figures=figures, verdict=at_least(row, 1.0), data=row.data))
    return made or [claim]


def _above_cascade(rows: Sequence[Row]) -> list[Claim]:
    claim = Claim(
        text="The merged model labels pixels better than its parents one after the other.",
        paper="VOC mIoU 66.0 with both heads, 60.6 with one; the cascade 27.2 (table 7)",
        verdict="not measured",
        remark="Needs the controls.",
    )
    made = []
    for row in _merged(rows, "miou_two_heads"):
        if cascade := headline.control_of(rows, row, "cascade", metric="miou_cascade"):
            figures = _pair("merged, both heads", row.merged_value, "the cascade", cascade.merged_value)
            made.append(decided(claim, row, cascade, figures))
    return made or [claim]


def _above_head(rows: Sequence[Row]) -> list[Claim]:
    claim = Claim(
        text="Both heads together label pixels better than the text-aligned head alone.",
        paper="VOC mIoU 66.0 and 60.6 (table 5)",
        verdict="not measured",
    )
    made = []
    for row in _merged(rows, "miou_two_heads"):
        for alone in _merged(rows, "miou_head"):
            if (alone.parent, alone.benchmark, alone.data) == (row.parent, row.benchmark, row.data):
                figures = _pair("both heads", row.merged_value, "one head", alone.merged_value)
                made.append(decided(claim, row, alone, figures))
                break
    return made or [claim]


def _forgets(rows: Sequence[Row], base: str | None) -> Claim:
    claim = Claim(
        text="Distillation without rehearsal forgets the base.",
        paper="shown as a curve (appendix D, figure 8)",
        verdict="not measured",
        remark="Needs the controls.",
    )
    row = headline.headline(rows, base) if base else None
    naive = headline.control_of(rows, row, "naive") if row else None
    if row is None or naive is None or row.retention is None or naive.retention is None:
        return claim
    figures = share(f"{base} kept without rehearsal", naive), share("with", row)
    return decided(claim, row, naive, figures)


def _neither_corner(rows: Sequence[Row], base: str | None) -> Claim:
    """No interpolation keeps two parents; the best is the one whose smaller retention is the largest."""
    claim = Claim(
        text="No interpolation of the base's trunk with one trained without rehearsal keeps both parents: nowhere are "
        f"both retentions at least {100 * KEPT:.0f} %.",
        paper="never above 60 % on ImageNet and 35 mAP on COCO together (appendix D, figure 8)",
        verdict="not measured",
        remark="Needs the controls.",
    )
    found = corner(rows, base=base)
    points = curve(rows, *found) if found else []
    if found is None or not points:
        return claim
    first, second = found
    best = max(points, key=lambda point: min(point.first, point.second))
    figures = tuple(
        Figure(name=name, value=f"{terms.percent(x)} of {first.parent}, {terms.percent(y)} of {second.parent}")
        for name, x, y in (
            (f"the best, {terms.model(best.control)}", best.first, best.second),
            ("merged", first.retention, second.retention),
        )
        if x is not None and y is not None
    )
    verdict: Verdict = "does not hold" if min(best.first, best.second) >= KEPT else "holds"
    remark = f"{len(points)} points of the curve were measured."
    return dataclasses.replace(claim, figures=figures, verdict=verdict, remark=remark, data=_where(found))


def _best_trunk(rows: Sequence[Row]) -> list[Claim]:
    """A linear segmentation head on each frozen trunk; what was measured through a parent's own head is not of it."""
    claim = Claim(
        text="The merged trunk, frozen, serves a linear segmentation head better than any parent's trunk.",
        paper="VOC mIoU 75.0; CLIP's trunk 70.7, SAM's 46.6 (table 3)",
        verdict="not measured",
        remark="Needs an evaluation with the benchmark segmentation_probe.",
    )
    probes = [
        row
        for row in _merged(rows, "linear_miou")
        if row.benchmark == "segmentation_probe" and row.parent_value is not None and row.capability != "dense"
    ]
    made = []
    for data in dict.fromkeys(row.data for row in probes):
        there = [row for row in probes if row.data == data]
        parents = tuple(Figure(name=f"{r.parent}'s trunk", value=number(r.parent_value or 0)) for r in there)
        figures = (Figure(name="merged trunk", value=number(there[0].merged_value)), *parents)
        verdict = worst([at_least(row, 1.0) for row in there])
        made.append(dataclasses.replace(claim, figures=figures, verdict=verdict, data=data, remark=""))
    return made or [claim]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A control's place between two parents: what it keeps of the first and of the second. share: of the curve."""

    control: str
    first: float
    second: float
    share: float | None = None


def corner(rows: Sequence[Row], *, base: str | None = None) -> tuple[Row, Row] | None:
    """The foremost rows of the base and of the next parent; none where there are not two."""
    found = [row for parent in headline.parents(rows, base=base) if (row := headline.headline(rows, parent))]
    known = [row for row in found if row.retention is not None]
    return (known[0], known[1]) if len(known) > 1 else None


def marks(rows: Sequence[Row], first: Row, second: Row) -> Iterator[Mark]:
    """Every control that was measured for both parents, as the rows have them."""
    for control in dict.fromkeys(row.control for row in rows if row.control is not None):
        x, y = (headline.control_of(rows, row, control) for row in (first, second))
        if x is not None and y is not None and x.retention is not None and y.retention is not None:
            share = 1.0 if control == "naive" else terms.interpolated(control)
            yield Mark(control=control, first=x.retention, second=y.retention, share=share)


def curve(rows: Sequence[Row], first: Row, second: Row) -> list[Mark]:
    """The interpolations from the base's trunk to the naive one, which ends it; empty without any between."""
    found = [mark for mark in marks(rows, first, second) if mark.share is not None]
    return sorted(found, key=lambda mark: mark.share or 0) if len(found) > 1 else []


def _merged(rows: Sequence[Row], metric: str) -> list[Row]:
    return [row for row in rows if row.control is None and row.metric == metric]


def _pair(name: str, value: float, other: str, beside: float) -> tuple[Figure, Figure]:
    return Figure(name=name, value=number(value)), Figure(name=other, value=number(beside))


def share(name: str, row: Row) -> Figure:
    value = "not known" if row.retention is None else terms.percent(row.retention)
    return Figure(name=name, value=value, interval=terms.interval(row))


def _where(found: Sequence[Row]) -> str:
    return terms.listed(list(dict.fromkeys(row.data for row in found)))


def at_least(row: Row, least: float) -> Verdict:
    """Whether a retention is at least so much, or, for 1, above it."""
    if row.retention is None:
        return "not measured"
    if row.ci_low is None or row.ci_high is None:
        return "holds" if row.retention > least or row.retention == least < 1 else "does not hold"
    if row.ci_low > least:
        return "holds"
    return "open" if row.ci_high > least and row.retention > least else "does not hold"


def decided(claim: Claim, upper: Row, lower: Row, figures: tuple[Figure, ...]) -> Claim:
    """The claim that one row is above another; their retentions are of the same parent on the same pictures."""
    verdict: Verdict = "holds" if upper.merged_value > lower.merged_value else "does not hold"
    if verdict == "holds" and upper.ci_low is not None and lower.ci_high is not None and upper.ci_low <= lower.ci_high:
        verdict = "open"
    return dataclasses.replace(claim, figures=figures, verdict=verdict, data=upper.data, remark="")


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    order: tuple[Verdict, ...] = ("does not hold", "not measured", "open", "holds")
    return min(verdicts, key=order.index)
