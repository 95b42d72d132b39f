"""The claims of Open-Vocabulary SAM (Yuan et al., ECCV 2024, arXiv:2401.02955v2), held against what a merge measured.

What a claim is, and when it holds, is as for the claims of SAM-CLIP.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from vfmerge.report import headline, terms
from vfmerge.report.claims import Claim, Figure, Verdict, at_least, decided, share, worst
from vfmerge.report.headline import KEPT
from vfmerge.report.recognition import BASELINES
from vfmerge.retention import Row, number


def claims(rows: Sequence[Row]) -> list[Claim]:
    """All claims for each data set that a recogniser was measured on, from true boxes; none without such a row."""
    found = [row for row in _of(rows, "box_iou") if row.control is None]
    kinds = [(_neck(rows, row), _masks(rows, row), _names(rows, row), *_parts(rows, row)) for row in found]
    return list(itertools.chain.from_iterable(kinds))


def _neck(rows: Sequence[Row], row: Row) -> Claim:
    claim = Claim(
        text=f"The neck on the frozen trunk keeps {row.parent}'s masks: at least {100 * KEPT:.0f} % of its IoU.",
        paper="78.1 of SAM's 78.7 (table 7)",
        verdict="not measured",
    )
    neck = headline.control_of(rows, row, "neck_only")
    if neck is None:
        return claim
    figures = (share("IoU from boxes", neck),)
    return dataclasses.replace(claim, figures=figures, verdict=at_least(neck, KEPT), data=row.data)


def _masks(rows: Sequence[Row], row: Row) -> Claim:
    claim = Claim(
        text="Learning from labelled masks makes masks better than the neck alone.",
        paper="IoU 81.5 and 78.1 (table 7)",
        verdict="not measured",
    )
    neck = headline.control_of(rows, row, "neck_only")
    if neck is None:
        return claim
    return decided(claim, row, neck, _pair(row, neck))


def _names(rows: Sequence[Row], row: Row) -> Claim:
    """Of base and of novel classes, where the data has both; else of all."""
    claim = Claim(
        text="It names more things right than crops of the picture or of its features do, base and novel ones.",
        paper="84.3 % on COCO; image crops 46.2, feature crops 55.1 (table 1)",
        verdict="not measured",
        data=row.data,
    )
    own = [each for each in _of(rows, "box_accuracy_base", "box_accuracy_novel") if _beside(each, row)]
    own = own or [each for each in _of(rows, "box_accuracy") if _beside(each, row)]
    pairs = [(each, other) for each in own for name in BASELINES if (other := headline.control_of(rows, each, name))]
    if not pairs:
        return claim
    figures = tuple(
        Figure(name=f"{terms.model(model.control)}, {_group(model)}", value=number(model.merged_value))
        for each in own
        for model in (each, *(other for first, other in pairs if first is each))
    )
    return dataclasses.replace(claim, figures=figures, verdict=worst([_above(*pair) for pair in pairs]))


def _parts(rows: Sequence[Row], row: Row) -> list[Claim]:
    """What each part adds: the neck with feature crops, a label branch of another kind, the recogniser by itself."""
    accuracy = next((each for each in _of(rows, "box_accuracy") if _beside(each, row)), None)
    if accuracy is None:
        return []
    known = (*BASELINES, "neck_only", "no_fusion", None)
    further = [
        each for each in rows if each.metric == "box_accuracy" and _beside(each, row) and each.control not in known
    ]
    neck, alone = (headline.control_of(rows, accuracy, name) for name in ("neck_only", "no_fusion"))
    steps = [each for each in (neck, *further, alone) if each is not None]
    if len(steps) < 3:
        return []
    rising = all(less.merged_value < more.merged_value for less, more in itertools.pairwise(steps))
    claim = Claim(
        text="A label branch names better than feature crops, and better still with a light pyramid.",
        paper="54.2, 79.3 and 84.3 % (table 7)",
        verdict="holds" if rising else "does not hold",
        data=row.data,
        figures=_pair(*steps),
    )
    return [claim]


def _of(rows: Sequence[Row], *metrics: str) -> list[Row]:
    """The merged model's rows of the benchmark."""
    named = [row for row in rows if row.benchmark == headline.RECOGNITION and row.control is None]
    return [row for row in named if row.metric in metrics]


def _beside(row: Row, other: Row) -> bool:
    """Whether they are of one evaluation."""
    return (row.benchmark, row.data) == (other.benchmark, other.data)


def _above(row: Row, other: Row) -> Verdict:
    return "holds" if row.merged_value > other.merged_value else "does not hold"


def _group(row: Row) -> str:
    return row.metric.removeprefix("box_accuracy").removeprefix("_") or "all"


def _pair(*rows: Row) -> tuple[Figure, ...]:
    return tuple(Figure(name=terms.model(each.control), value=number(each.merged_value)) for each in rows)
