"""Charts: that marks stand where their values are, and what becomes of many, wide, odd or no values."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vfmerge.report import axes, charts, facets, plots, terms, trace
from vfmerge.report.charts import Pair, Value
from vfmerge.report.claims import Mark
from vfmerge.report.plots import Series
from vfmerge.retention import Row


def marks(chart: str, kind: str) -> list[dict[str, str]]:
    """The attributes of a drawing's shapes of a class."""
    return [each.attrib for each in ElementTree.fromstring(chart).iter() if each.get("class") == kind]


def row(metric: str, retention: float, **more: object) -> Row:
    facts = {"parent": "sam", "capability": "promptable", "benchmark": "promptable", "data": "held_out", "n": 9}
    return Row(**facts, metric=metric, parent_value=1.0, merged_value=retention, retention=retention, **more)


def test_bars_are_as_long_as_their_values() -> None:
    """Half the value is half the length, and all shares have one scale."""
    values = [Value(name="sam alone", kind="parent", value=0.8), Value(name="merged", kind="merged", value=0.4)]
    chart = charts.bars("x", values)
    (parent,), (merged,) = marks(chart, "bar parent"), marks(chart, "bar merged")
    assert float(merged["width"]) == pytest.approx(float(parent["width"]) / 2, abs=0.1)
    alone = charts.bars("x", values[1:])
    assert marks(alone, "bar merged")[0]["width"] == merged["width"]


def test_charts_say_in_words_what_they_show() -> None:
    """Names and values are in the description, for who cannot see the marks."""
    chart = charts.bars("box IoU", [Value(name="a<b>", kind="merged", value=0.25)])
    root = ElementTree.fromstring(chart)
    assert [each.text for each in root][:2] == ["box IoU", "a<b> 0.250."]
    assert "<b>" not in chart


def test_dots_of_a_parent_that_was_not_measured() -> None:
    """The merged model's dot stands alone."""
    chart = charts.dots("x", [Pair(name="fog", parent=None, merged=0.5), Pair(name="snow", parent=0.25, merged=0.5)])
    assert len(marks(chart, "mark merged")) == 3  # one in the legend
    assert len(marks(chart, "mark parent")) == 2
    assert len(marks(chart, "link")) == 1


def test_the_bar_of_a_table_ends_at_its_retention() -> None:
    """100 % is at the line; what goes beyond the bar has an arrow instead of an interval."""
    whole = charts.kept(row("box_miou", 1.0, ci_low=0.9, ci_high=1.1))
    (bar,), (line,) = marks(whole, "bar soft"), marks(whole, "whole")
    assert float(bar["x"]) + float(bar["width"]) == pytest.approx(float(line["x1"]), abs=0.1)
    assert len(marks(whole, "spread")) == 3
    beyond = charts.kept(row("miou_two_heads", 2.5, ci_low=2.4, ci_high=2.6))
    assert len(marks(beyond, "arrow")) == 1
    assert marks(beyond, "spread") == []


def test_the_corner_shows_both_retentions() -> None:
    """Further right keeps more of the first parent, further up of the second; the goal is beyond 95 %."""
    curve = [
        Mark(control="wise_ft_0", first=1.0, second=0.1, share=0.0),
        Mark(control="naive", first=0.6, second=0.5, share=1.0),
    ]
    chart = plots.corner(row("box_miou", 0.99), row("top1", 0.98), curve, [Mark(control="probe", first=1, second=0.9)])
    first, last = marks(chart, "mark control")
    assert float(first["cx"]) > float(last["cx"])
    assert float(first["cy"]) > float(last["cy"])
    (goal,), (merged,) = marks(chart, "goal"), marks(chart, "mark merged")
    x, y = map(float, re.match(r"M([\d.]+) ([\d.]+)", merged["d"]).groups())  # type: ignore[union-attr]
    assert float(goal["x"]) < x < float(goal["x"]) + float(goal["width"])
    assert float(goal["y"]) < y + 7 < float(goal["y"]) + float(goal["height"])
    assert len(marks(chart, "mark open control")) == 1


def test_names_in_the_corner_cover_nothing() -> None:
    """Where twenty models lie on one spot, most of them go unnamed."""
    crowd = [Mark(control=f"control_{number}", first=0.5, second=0.5 + number / 500) for number in range(20)]
    chart = plots.corner(row("box_miou", 1.0), row("top1", 1.0), [], crowd)
    named = marks(chart, "control")
    assert 1 <= len(named) < 8
    assert all(abs(float(a["y"]) - float(b["y"])) > 8 for a, b in itertools.combinations(named, 2) if a["x"] == b["x"])


@pytest.mark.parametrize("value", [0.0, 1.0, 0.05, 3.0, -0.5, 40_000.0, 1e-9])
def test_any_value_can_be_drawn(value: float) -> None:
    """Nothing, all, little, much, and below nothing: marks stay on the paper."""
    drawn = [
        charts.bars("x", [Value(name="merged", kind="merged", value=value)]),
        charts.dots("x", [Pair(name="fog", parent=value, merged=value)]),
        charts.kept(row("x", value, ci_low=value, ci_high=value)),
        plots.corner(row("x", value), row("y", value), [], []),
        plots.sweep("x", [Series(name="merged", kind="merged", points=[(96, value)])], unit="pixels"),
    ]
    for chart in drawn:
        root = ElementTree.fromstring(chart)
        width = float(root.attrib["viewBox"].split()[2])
        for each in root.iter():
            for key in ("x", "x1", "x2", "cx"):
                assert 0 <= float(each.get(key, 0)) <= width


def write(path: Path, steps: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(step) + "\n" for step in steps))
    return path


def test_thousands_of_steps_are_thinned(tmp_path: Path) -> None:
    """A curve has about as many points as asked for; means, least and most are of all the steps."""
    steps = [
        {"step": n, "stage": "probe" if n <= 9_000 else "adapt", "loss.0.clip.cosine": n % 7} for n in range(1, 10_001)
    ]
    found = trace.read(write(tmp_path / "metrics.jsonl", steps), points=100)
    assert found is not None
    assert found.stages == {"probe": (1, 9000), "adapt": (9001, 10_000)}
    first, last = found.curves["clip cosine"]
    assert 90 <= len(first.steps) + len(last.steps) <= 103
    assert (first.low.min(), first.high.max()) == (0, 6)
    assert first.mean == pytest.approx(3, abs=0.2)
    assert (first.steps[0], last.steps[-1]) == (pytest.approx(50, abs=5), pytest.approx(9950, abs=50))
    assert len(plots.training("clip cosine", [first, last], found)) < 12_000


def test_lines_that_are_no_steps_are_left_out(tmp_path: Path) -> None:
    """Half a line, infinities, words, and numbers that no machine holds."""
    path = write(tmp_path / "metrics.jsonl", [{"step": 1, "stage": "a", "loss.0.clip.cosine": 0.5, "gradient_norm": 2}])
    odd = ['{"step": 2', "[]", '{"step": "3", "stage": "a"}', '{"step": 4, "stage": "a", "loss.0.clip.cosine": NaN}']
    odd += [f'{{"step": 5, "stage": "a", "loss.0.clip.cosine": 1{"0" * 400}}}', '{"step": 1e9, "stage": "a"}', "\x00"]
    odd += ['{"step": 6, "stage": "a", "loss.0.clip.cosine": true, "loss": 1, "rate.trunk": 1}']
    path.write_text(path.read_text() + "\n".join(odd))
    found = trace.read(path)
    assert found is not None
    assert {name: [curve.mean.tolist() for curve in curves] for name, curves in found.curves.items()} == {
        "clip cosine": [[0.5]],
        "gradient norm": [[2.0]],
    }
    assert trace.read(tmp_path / "absent") is None
    assert trace.read(write(tmp_path / "empty", [])) is None


def test_two_streams_of_one_task_are_two_curves(tmp_path: Path) -> None:
    """They are told apart by the stream."""
    step = {"step": 1, "stage": "a", "loss.0.clip.cosine": 0.5, "loss.1.clip.cosine": 0.25}
    found = trace.read(write(tmp_path / "metrics.jsonl", [step]))
    assert found is not None
    assert list(found.curves) == ["clip cosine", "clip cosine, stream 1"]


def test_an_axis_is_logarithmic_where_values_are_far_apart() -> None:
    """Equal factors are equal lengths then, and what is below its end stays at its end."""
    axis = axes.fitting(0.001, 10, start=0, end=400)
    assert axis.log
    assert [axis(mark) for mark in axis.marks] == pytest.approx([0, 100, 200, 300, 400])
    assert axis(0) == axis(-1) == 0
    assert not axes.fitting(0.5, 10, start=0, end=400).log
    assert not axes.fitting(0, 10, start=0, end=400).log


@pytest.mark.parametrize("most", [0.3, 0.07, 1.2, 7, 950, 1e7, 3e-8])
def test_marks_of_an_axis_are_few_and_round(most: float) -> None:
    """Three to seven, from zero to beyond the largest value, evenly."""
    axis = axes.from_zero([most], start=0, end=100)
    assert 3 <= len(axis.marks) <= 7
    assert axis.marks[0] == 0
    assert most <= axis.marks[-1] <= 4 * most
    steps = [after - before for before, after in itertools.pairwise(axis.marks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    digits = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert any(digits == pytest.approx(each) for each in (1, 2, 2.5, 5))


def test_names_at_the_ends_of_lines_keep_apart() -> None:
    """Equal ends are moved, in their order, and distant ones are left."""
    moved = axes.apart({"a": 10.0, "b": 10.0, "c": 11.0, "d": 90.0}, least=14)
    assert list(moved) == ["a", "b", "c", "d"]
    assert all(after - before >= 14 for before, after in itertools.pairwise(moved.values()))
    assert moved["d"] == 90


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("top1", "top-1 accuracy"),
        ("top1@96", "top-1 accuracy at 96 pixels"),
        ("top1@96 gaussian_noise", "top-1 accuracy at 96 pixels, gaussian noise"),
        ("top1 group=night_drive", "top-1 accuracy, night_drive"),
        ("top1 worst_group", "top-1 accuracy, worst group"),
        ("latency_ms_one_pass", "time, ms, in one pass of the trunk"),
        ("some_new_metric", "some new metric"),
    ],
)
def test_metrics_in_words(name: str, words: str) -> None:
    """Sizes, corruptions and groups are said, and what nobody knows is at least readable."""
    assert terms.metric(name) == words


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (2.0, None, None, "2.00 times less"),
        (2.0, 1.9, 2.1, "2.00 times less (1.90 to 2.10)"),
        (0.5, 0.4, 0.8, "2.00 times more (1.25 to 2.50)"),
        (1.001, 0.9, 1.1, "as much"),
        (None, None, None, "-"),
    ],
)
def test_cost_is_said_as_so_many_times_less(
    ratio: float | None, low: float | None, high: float | None, said: str
) -> None:
    """A retention of a cost is the parents' over the merged model's; below one the merged model needs more."""
    cost = dataclasses.replace(
        row("latency_ms", 1.0, ci_low=low, ci_high=high), benchmark="efficiency", retention=ratio
    )
    assert [each.said for each in facets.costs([cost])] == [said]


def test_of_many_groups_those_that_kept_least_are_shown() -> None:
    """Three hundred classes are no chart."""
    groups = [row(f"top1 group={number}", 1 - number / 1000) for number in range(300)]
    (panel,) = facets.by_group(groups)
    assert "the 40 of 300 groups that kept least" in panel.subtitle
    assert len(marks(panel.chart, "mark merged")) == 41
    assert ">299<" in panel.chart
    assert ">259<" not in panel.chart


def test_a_sweep_shows_a_line_for_each_model() -> None:
    """Parent, merged and controls, but no interpolation; a metric that only a control has is no chart."""
    sizes = [row(f"top1@{size}", 0.9) for size in (32, 64)]
    more = [dataclasses.replace(each, control=name) for each in sizes for name in ("naive", "wise_ft_0.5")]
    alone = row("miou_cascade@32", 0.4, control="cascade")
    rows = [dataclasses.replace(each, benchmark="resolution") for each in (*sizes, *more, alone)]
    (panel,) = facets.sweeps(rows)
    drawn = [len(marks(panel.chart, f"curve {kind}")) for kind in ("parent", "merged", "control")]
    assert drawn == [1, 1, 1]
    assert facets.sweeps([dataclasses.replace(rows[0], metric=f"top1@{'9' * 5000}")]) == []
