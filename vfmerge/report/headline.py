"""What a merge comes to in a sentence or two: the one metric that stands for each parent, and what the controls add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vfmerge.report import terms
from vfmerge.retention import Row

KEPT = 0.95
"""Retention from which a skill counts as kept (chosen here; the paper's own merge kept 95 to 99 %, its table 1)."""

SECTIONS = ("efficiency", "resolution", "robustness")
"""Benchmarks that a report shows by themselves, and not in the table of what was kept."""

RECOGNITION = "recognition"
"""The benchmark whose rows have a section of their own, but for the few that are in that table too."""

_PROBES = ("knn", "linear_probe", "segmentation_probe")  # of trunks, but where features are all that a parent gives

_FOREMOST = {"promptable": ("promptable", "box_miou"), "image_text": ("zero_shot_classification", "top1")}


def parents(rows: Iterable[Row], *, base: str | None = None) -> list[str]:
    """The parents whose own skill was measured, the base first, then as the rows have them."""
    names = dict.fromkeys(row.parent for row in rows if row.control is None and _own(row))
    return sorted(names, key=lambda name: name != base)


def headline(rows: Iterable[Row], parent: str) -> Row | None:
    """The row that stands for a parent: box mIoU of what is promptable, zero-shot top-1 of what knows texts.

    Of other parents, and where these were not measured, the first row that sets a metric against itself.
    """
    own = [
        row
        for row in rows
        if row.control is None and row.parent == parent and _own(row) and row.metric not in terms.COMPARED
    ]
    foremost = [row for row in own if (row.benchmark, row.metric) == _FOREMOST.get(row.capability)]
    return next(iter([*foremost, *own]), None)


def control_of(rows: Iterable[Row], row: Row, control: str, *, metric: str | None = None) -> Row | None:
    """The same measurement of a control, or another metric of it; none if that was not made."""
    place = (row.parent, row.benchmark, row.data, metric or row.metric, control)
    return next((each for each in rows if _place(each) == place), None)


def verdict(rows: Sequence[Row], *, base: str | None = None) -> list[str]:
    """What was kept, what was gained, and what is left without rehearsal: sentences, as many as the rows allow."""
    found = [row for parent in parents(rows, base=base) if (row := headline(rows, parent))]
    said = [_kept([row for row in found if row.retention is not None]), _gained(rows)]
    said += [_forgotten(rows, row) for row in found if row.parent == base]
    missing = [row.parent for row in found if row.retention is None]
    said += [f"What was kept of {terms.listed(missing)} is not known: no such parent was measured."] if missing else []
    return [each for each in said if each] or ["Nothing was measured."]


def apart(row: Row) -> bool:
    """Whether a report shows a row elsewhere than in the table of what was kept.

    Of recognition that table has what a parent can do too, the outlines of all things; names are no parent's skill.
    """
    named = row.benchmark == RECOGNITION and not row.metric.endswith("_iou")
    return row.benchmark in SECTIONS or terms.GROUP in row.metric or named


def _own(row: Row) -> bool:
    """Whether a row is of a parent's own skill."""
    return not apart(row) and (row.benchmark not in _PROBES or row.capability == "dense")


def _place(row: Row) -> tuple[str, str, str, str, str | None]:
    return row.parent, row.benchmark, row.data, row.metric, row.control


def _kept(found: Sequence[Row]) -> str:
    """`Kept 99.7 % of sam but only 46.4 % of clip.`"""
    text, before = "", True
    for row in found:
        assert row.retention is not None
        good = row.retention >= KEPT
        join = "Kept" if not text else " and" if good == before else " but"
        text += f"{join} {'' if good else 'only '}{terms.kept(row)} of {row.parent}"
        before = good
    return f"{text}." if text else ""


def _gained(rows: Iterable[Row]) -> str:
    """How well both heads together label pixels, for each data set."""
    both = [r for r in rows if r.control is None and r.metric == "miou_two_heads" and r.retention is not None]
    if not both:
        return ""
    text, before = "Labels pixels", True
    for number, row in enumerate(both):
        assert row.retention is not None
        alone = f" as {row.parent} alone" if number == 0 else ""
        where = f" on {row.data}" if len(both) > 1 else ""
        good = row.retention >= KEPT
        join = "" if number == 0 else " and" if good == before else " but"
        well = f"{terms.times(row.retention)} times as well" if row.retention >= 1.05 else "as well"
        text += f"{join} {well if good else f'only {terms.percent(row.retention)} as well'}{alone}{where}"
        before = good
    return f"{text}."


def _forgotten(rows: Iterable[Row], row: Row) -> str:
    """What the control without rehearsal has left of the base."""
    naive = control_of(rows, row, "naive")
    if naive is None or naive.retention is None or row.retention is None:
        return ""
    left = f"{terms.percent(naive.retention)} of {row.parent} remains"
    if naive.retention < row.retention:
        return f"Without rehearsal {left}."
    return f"Rehearsal kept no more here: without it {left}."
