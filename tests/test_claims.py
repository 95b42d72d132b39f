"""The paper's claims held against made-up measurements, and the verdict in a sentence, in both directions."""

from __future__ import annotations

import dataclasses

import pytest

from vfmerge.report import claims, headline, recognition_claims, report
from vfmerge.retention import Row

KEPT, DENSE, CASCADE, HEADS, FORGETS, CORNER, TRUNK = range(7)


def row(
    metric: str,
    merged: float,
    parent: float | None = 1.0,
    *,
    of: str = "sam",
    benchmark: str = "promptable",
    data: str = "held_out",
    spread: float | None = 0.01,
    control: str | None = None,
) -> Row:
    """A measurement whose retention has an interval of `spread` to either side."""
    kept = merged / parent if parent else None
    known = kept is not None and spread is not None
    return Row(
        parent=of,
        capability={"sam": "promptable", "dino": "dense"}.get(of, "image_text"),
        benchmark=benchmark,
        data=data,
        metric=metric,
        parent_value=parent,
        merged_value=merged,
        retention=kept,
        n=9,
        ci_low=kept - spread if known else None,
        ci_high=kept + spread if known else None,
        control=control,
    )


def box(merged: float, **more: object) -> Row:
    return row("box_miou", merged, **more)


def top1(merged: float, **more: object) -> Row:
    return row("top1", merged, **({"of": "clip", "benchmark": "zero_shot_classification", "data": "objects"} | more))


def pixels(metric: str, merged: float, **more: object) -> Row:
    return row(metric, merged, **({"parent": 0.5, "of": "clip", "benchmark": "zero_shot_segmentation"} | more))


def trunk(of: str, merged: float, parent: float) -> Row:
    return row("linear_miou", merged, parent, of=of, benchmark="segmentation_probe")


GOOD = [
    top1(0.99),
    box(0.98),
    pixels("miou_head", 0.4),
    pixels("miou_two_heads", 0.7),
    pixels("miou_cascade", 0.6, control="cascade"),
    box(0.7, control="naive"),
    top1(0.9, control="naive"),
    box(0.9, control="wise_ft_0.5"),
    top1(0.5, control="wise_ft_0.5"),
    trunk("sam", 0.6, 0.4),
    trunk("clip", 0.6, 0.5),
]
BAD = [
    top1(0.8),
    box(0.98),
    pixels("miou_head", 0.45),
    pixels("miou_two_heads", 0.4),
    pixels("miou_cascade", 0.6, control="cascade"),
    box(0.99, control="naive"),
    top1(0.99, control="naive"),
    box(0.99, control="wise_ft_0.5"),
    top1(0.96, control="wise_ft_0.5"),
    trunk("sam", 0.45, 0.4),
    trunk("clip", 0.45, 0.5),
]


@pytest.mark.parametrize(("rows", "verdict"), [(GOOD, "holds"), (BAD, "does not hold"), ([], "not measured")])
def test_each_claim_goes_either_way(rows: list[Row], verdict: str) -> None:
    """Seven claims, all of which good figures bear out, bad ones refute, and none leave unmeasured."""
    found = claims.claims(rows, base="sam")
    assert [claim.verdict for claim in found] == [verdict] * 7
    assert len({claim.text for claim in found}) == 7


@pytest.mark.parametrize("rows", [GOOD, BAD])
def test_every_decided_claim_shows_its_figures(rows: list[Row]) -> None:
    """Whatever the verdict, two figures at least stand beside it, with the names of what they are of."""
    figures = [[(figure.name, figure.value) for figure in claim.figures] for claim in claims.claims(rows, base="sam")]
    assert all(len(each) >= 2 for each in figures)
    assert figures[DENSE][1] == ("clip alone", "0.500")
    assert figures[CASCADE][1] == ("the cascade", "0.600")
    assert figures[KEPT][0] == ("sam, mean IoU from boxes", "98.0 %")


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (KEPT, {"box_miou": 0.955}),  # above 95 %, by less than the interval
        (DENSE, {"miou_two_heads": 0.504}),
        (CASCADE, {"miou_cascade": 0.695}),
        (HEADS, {"miou_head": 0.695}),
        (FORGETS, {"naive box_miou": 0.97}),
        (TRUNK, {"clip linear_miou": 0.595}),  # of the parent
    ],
)
def test_what_the_intervals_leave_room_for_is_open(place: int, change: dict[str, float]) -> None:
    """Figures that point the right way, by less than their intervals, decide nothing."""
    rows = [changed(each, change) for each in GOOD]
    assert claims.claims(rows, base="sam")[place].verdict == "open"


def changed(old: Row, change: dict[str, float]) -> Row:
    """The row with another value, if the change names it."""
    for name, value in change.items():
        who, _, metric = name.rpartition(" ")
        if metric != old.metric or (old.control or "") not in ("cascade", who if who == "naive" else ""):
            continue
        if metric == "linear_miou":
            return trunk(old.parent, old.merged_value, value) if who == old.parent else old
        assert old.parent_value is not None
        kept = value / old.parent_value
        return dataclasses.replace(old, merged_value=value, retention=kept, ci_low=kept - 0.01, ci_high=kept + 0.01)
    return old


def test_without_intervals_the_values_decide() -> None:
    """Retention tables of before had none."""
    bare = [dataclasses.replace(each, ci_low=None, ci_high=None) for each in GOOD]
    assert {claim.verdict for claim in claims.claims(bare, base="sam")} == {"holds"}


def test_a_claim_is_held_against_each_data_set() -> None:
    """One data set may bear out what another refutes, and both are said."""
    rows = [*GOOD, pixels("miou_two_heads", 0.3, data="things")]
    found = [claim for claim in claims.claims(rows, base="sam") if "parent alone" in claim.text]
    assert [(claim.data, claim.verdict) for claim in found] == [("held_out", "holds"), ("things", "does not hold")]


def test_the_best_interpolation_is_the_one_whose_worse_half_is_best() -> None:
    """At 0.5 sam keeps more, but clip only half; without rehearsal both are at least 70 %."""
    figure = claims.claims(GOOD, base="sam")[CORNER].figures[0]
    assert figure.name == "the best, without rehearsal"
    assert figure.value == "70.0 % of sam, 90.0 % of clip"


def test_a_parent_that_was_not_there_leaves_the_claim_unmeasured() -> None:
    """Without the parent's value nobody knows what was kept; another parent that lost much still refutes."""
    gone = [box(0.9, parent=None), top1(0.99)]
    assert claims.claims(gone, base="sam")[KEPT].verdict == "not measured"
    assert claims.claims([box(0.9, parent=None), top1(0.5)], base="sam")[KEPT].verdict == "does not hold"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([top1(0.99), box(0.98)], "Kept 98.0 % (97.0 to 99.0) of sam and 99.0 % (98.0 to 100.0) of clip."),
        (
            [top1(0.5, spread=None), box(0.98, spread=None)],
            "Kept 98.0 % of sam but only 50.0 % of clip.",
        ),
        (
            [top1(0.5, spread=None), box(0.6, spread=None)],
            "Kept only 60.0 % of sam and only 50.0 % of clip.",
        ),
        (
            [box(1, spread=None), box(0.8, control="naive")],
            "Kept 100.0 % of sam. Without rehearsal 80.0 % of sam remains.",
        ),
        (
            [box(0.8, spread=None), box(0.9, control="naive")],
            "Kept only 80.0 % of sam. Rehearsal kept no more here: without it 90.0 % of sam remains.",
        ),
        ([pixels("miou_two_heads", 1.25)], "Labels pixels 2.5 times as well as clip alone."),
        ([pixels("miou_two_heads", 0.5)], "Labels pixels as well as clip alone."),
        (
            [pixels("miou_two_heads", 1.25), pixels("miou_two_heads", 0.4, data="things")],
            "Labels pixels 2.5 times as well as clip alone on held_out but only 80.0 % as well on things.",
        ),
        ([box(0.9, parent=None)], "What was kept of sam is not known: no such parent was measured."),
        ([], "Nothing was measured."),
    ],
)
def test_the_verdict_in_a_sentence(rows: list[Row], said: str) -> None:
    """Good and bad are said alike, the base first."""
    assert " ".join(headline.verdict(rows, base="sam")) == said


def test_the_headline_is_the_parents_own_skill() -> None:
    """Not a probe of its trunk, not a corrupted picture, not one group, not a metric set against another one."""
    others = [
        top1(0.1, benchmark="linear_probe"),
        row("top1 fog", 0.2, of="clip", benchmark="robustness"),
        top1(0.3, benchmark="resolution"),
        row("top1 group=night", 0.4, of="clip", benchmark="zero_shot_classification"),
        pixels("miou_two_heads", 0.9),
    ]
    found = headline.headline(
        [*others, row("top5", 0.99, of="clip", benchmark="zero_shot_classification"), top1(0.9)], "clip"
    )
    assert found is not None
    assert (found.metric, found.merged_value) == ("top1", 0.9)
    only = headline.headline([*others, row("t2i_r1", 0.7, of="clip", benchmark="retrieval")], "clip")
    assert only is not None
    assert only.metric == "t2i_r1"
    assert headline.headline(others, "clip") is None


def test_a_parent_known_by_its_features_is_kept_by_them() -> None:
    """Probes are of a DINO's own skill, through its own head: they count for it, and say nothing of trunks."""
    dino = [row("top1", 0.5, of="dino", benchmark="knn"), trunk("dino", 0.2, 0.4)]
    assert headline.parents([*GOOD, *dino], base="sam") == ["sam", "clip", "dino"]
    assert headline.headline(dino, "dino") == dino[0]
    kept, *_, trunks = claims.claims([*GOOD, *dino], base="sam")
    assert kept.verdict == "does not hold"
    assert trunks.verdict == "holds"
    assert "dino" not in str(trunks.figures)


def named(metric: str, merged: float, control: str | None = None) -> Row:
    """A measurement of names, which no parent has."""
    return row(metric, merged, None, of="recognition", benchmark="recognition", control=control)


def outlined(merged: float, control: str | None = None) -> Row:
    return row("box_iou", merged, 0.9, benchmark="recognition", control=control)


NAMED = [
    outlined(0.91),
    outlined(0.88, "neck_only"),
    *(named(f"box_accuracy{group}", 0.9) for group in ("", "_base", "_novel")),
    *(named(f"box_accuracy{group}", 0.5, "image_crop") for group in ("", "_base", "_novel")),
    *(named(f"box_accuracy{group}", 0.6, "feature_crop") for group in ("", "_base", "_novel")),
    named("box_accuracy", 0.6, "neck_only"),
    named("box_accuracy", 0.7, "token"),
    named("box_accuracy", 0.8, "no_fusion"),
]


@pytest.mark.parametrize(
    ("changed", "verdicts"),
    [
        ([], ["holds", "holds", "holds", "holds"]),
        ([outlined(0.80, "neck_only")], ["does not hold", "holds", "holds", "holds"]),
        ([outlined(0.905, "neck_only")], ["holds", "open", "holds", "holds"]),
        ([outlined(0.93, "neck_only")], ["holds", "does not hold", "holds", "holds"]),
        ([named("box_accuracy_novel", 0.95, "image_crop")], ["holds", "holds", "does not hold", "holds"]),
        ([named("box_accuracy", 0.1, "token")], ["holds", "holds", "holds", "does not hold"]),
    ],
)
def test_what_the_second_paper_says(changed: list[Row], verdicts: list[str]) -> None:
    """Each of its claims by itself: one figure that contradicts it turns it over, and no other."""
    places = {(each.metric, each.control) for each in changed}
    rows = [each for each in NAMED if (each.metric, each.control) not in places] + changed
    assert [claim.verdict for claim in recognition_claims.claims(rows)] == verdicts


def test_names_are_told_of_all_where_no_class_is_novel() -> None:
    """And what was not measured beside is said to be so."""
    rows = [each for each in NAMED if not each.metric.endswith(("_base", "_novel"))]
    third = recognition_claims.claims(rows)[2]
    assert third.verdict == "holds"
    assert [figure.value for figure in third.figures] == ["0.900", "0.500", "0.600"]
    alone = [each for each in rows if each.control is None]
    assert {claim.verdict for claim in recognition_claims.claims(alone)} == {"not measured"}
    assert recognition_claims.claims(GOOD) == []


def test_a_report_tells_the_papers_that_were_tried() -> None:
    """The first paper's claims where nothing was named; the second's where things were; both where both were."""
    links = [[paper.link for paper in report.papers(rows, base="sam")] for rows in (GOOD, NAMED, [*GOOD, *NAMED])]
    assert links == [["2310.15308"], ["2401.02955"], ["2310.15308", "2401.02955"]]
