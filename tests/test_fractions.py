"""Learning from less data: a stream's fraction, and `vfmerge run --fractions`, which sets retention against data."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from vfmerge import engine, evaluation, recipe, retention
from vfmerge.cli import main
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample
from vfmerge.recipe import Stage, Stream
from vfmerge.report import fractions
from vfmerge.report.fractions import Point
from vfmerge.retention import Row
from vfmerge.stream import Steps, in_order


class Numbers(Source):
    """Pictures that show their own number; those of odd number can be torn."""

    has_masks, has_captions, classes = True, True, ("one", "two")

    def __init__(self, length: int, *, torn: bool = False) -> None:
        self.length, self.torn = length, torn

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Sample:
        if self.torn and index % 2:
            raise BadSample(f"picture {index}: torn")
        return Sample(image=np.full((8, 8, 3), index, dtype=np.uint8), name=str(index))

    def digest(self) -> str:
        return "numbers"


def steps(source: Source, fraction: float, *, seed: int = 0, place: str = "s/0", **more: object) -> Steps:
    facts = {"data": "d", "size": 8, "batch": 4, "tasks": {"t": 1.0}, "fraction": fraction}
    return Steps(source, Stream.model_validate(facts | more), seed=seed, place=place)


def read(stream: Steps) -> set[int]:
    """The numbers of all samples that a stream ever reads."""
    return {stream.source.number(index) for index in range(len(stream.source))}


def test_a_smaller_fraction_is_within_a_larger_one() -> None:
    """Drawn by seed and data set, whatever the stage, and no matter in which process."""
    tenth, third, whole = (read(steps(Numbers(200), fraction)) for fraction in (0.1, 0.3, 1.0))
    assert (len(tenth), len(third), whole) == (20, 60, set(range(200)))
    assert tenth < third
    assert max(tenth) > 100  # not the first ones
    assert read(steps(Numbers(200), 0.1, place="other/1", size=16)) == tenth
    assert read(steps(Numbers(200), 0.1, seed=1)) != tenth
    assert read(steps(Numbers(200), 0.1, data="e")) != tenth


def test_batches_are_of_the_fraction_alone() -> None:
    """An epoch is every sample of it once; what is read in order too."""
    few = steps(Numbers(40), 0.3)
    shown = [int(image[0, 0, 0]) for step in range(3) for image in few[step][0].images]
    assert sorted(shown) == sorted(read(few))
    ordered = [name for batch, _ in in_order(few, size=8) for name in batch.names]
    assert ordered == [str(few.source.number(index)) for index in range(12)]


def test_all_of_a_source_are_the_source() -> None:
    """In its own order and with its own digest, so that recipes without the key mean what they did."""
    whole = steps(Numbers(7), 1.0)
    assert [whole.source.read(index).name for index in range(7)] == list("0123456")
    assert whole.source.digest() == "numbers"


def test_a_cache_of_another_fraction_is_another(small: Path, tmp_path: Path) -> None:
    """The digest, by which caches are known, is of the samples that were chosen."""
    made = [steps(Numbers(40), fraction, seed=seed).source for fraction in (0.1, 0.3, 1.0) for seed in (0, 1)]
    assert len({source.digest() for source in made}) == 5  # all is all, whatever the seed
    assert made[0].digest() == steps(Numbers(40), 0.1).source.digest()
    assert (made[0].has_masks, made[0].has_captions, made[0].classes) == (True, True, ("one", "two"))


def test_bad_samples_are_numbered_as_in_the_data_set() -> None:
    """What replaces one is of the fraction too."""
    torn = steps(Numbers(100, torn=True), 0.2)
    batches = [torn[step] for step in range(5)]
    assert {each.index for _, bad in batches for each in bad} == {number for number in read(torn) if number % 2}
    assert {int(name) for batch, _ in batches for name in batch.names} <= read(torn)


def test_at_least_one_sample() -> None:
    """A fraction that is next to nothing still fills its batches."""
    (batch, _) = steps(Numbers(10), 1e-9)[0]
    assert len(set(batch.names)) == 1
    assert len(batch.names) == 4


@pytest.mark.parametrize(("length", "expected"), [({"epochs": 2.5}, 25), ({"steps": 90}, 90)])
def test_epochs_are_of_the_fraction(length: dict[str, float], expected: int) -> None:
    """Passes over fewer samples are fewer steps; steps are steps."""
    stream = {"data": "d", "size": 8, "batch": 4, "tasks": {"t": 1.0}, "fraction": 0.4}
    stage = Stage.model_validate({"train": {"trunk": 1.0}, "streams": (stream,)} | length)
    assert stage.total_steps(100) == expected


@pytest.mark.parametrize("value", ["0", "1.5", "-0.1", ".inf", "half"])
def test_a_fraction_that_is_none(small: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Above 0 and at most 1, said with its key."""
    assert main(["check", str(small), f"stages.probe.streams.0.fraction={value}"]) == 2
    assert "stages.probe.streams.0.fraction: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def done(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two fractions of `small`, given as a person may; not to be changed."""
    out = tmp_path_factory.mktemp("fractions") / "out"
    assert main(["run", str(small), "--fractions", "1.0, 0.25", "--out", str(out)]) == 0
    return out


def models(out: Path) -> dict[str, bytes]:
    return {path.parent.parent.name: path.read_bytes() for path in sorted(out.glob("fraction-*/merged/*.safetensors"))}


def test_a_run_for_each_fraction(done: Path, finished: Path) -> None:
    """Whole runs, of which that on all data is the run that there is without the option; and what they say together."""
    assert sorted(path.name for path in done.iterdir() if not path.name.startswith(".")) == [
        "fraction-0.25",
        "fraction-1.0",
        "fractions.html",
        "fractions.json",
    ]
    trained = models(done)
    assert trained["fraction-1.0"] == (finished / "merged" / "model.safetensors").read_bytes()
    assert trained["fraction-0.25"] != trained["fraction-1.0"]
    streams = recipe.load(str(done / "fraction-0.25" / "recipe.yaml")).stages["distill"].streams
    assert [stream.fraction for stream in streams] == [0.25, 0.25]


def test_the_figures(done: Path) -> None:
    """From the least data to the most: samples of each data set that is learnt from, steps, and the runs' own rows."""
    quarter, whole = json.loads((done / "fractions.json").read_text())["fractions"]
    assert [quarter["fraction"], whole["fraction"]] == [0.25, 1.0]
    assert [quarter["samples"], whole["samples"]] == [{"images": 6, "masks": 3}, {"images": 24, "masks": 12}]
    assert [quarter["steps"], whole["steps"]] == [5 + 6 + 1, 5 + 6 + 3]  # the last stage is half an epoch
    for each in (quarter, whole):
        rows = json.loads((done / each["run"] / "retention.json").read_text())
        assert each["rows"] == [row for row in rows if row["retention"] is not None]
        assert len(each["rows"]) == 3


def test_the_table(done: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished run is left as it is, and its table shown again: a column for each fraction."""
    before = models(done), os.stat(done / "fraction-0.25" / "merged").st_mtime_ns
    assert main(["run", str(small), "--fractions", "0.25,1.0", "--out", str(done)]) == 0
    assert (models(done), os.stat(done / "fraction-0.25" / "merged").st_mtime_ns) == before
    said = capsys.readouterr()
    assert [line.strip("│").split()[0] for line in said.out.splitlines() if line[:1] == "│"] == ["clip", "sam", "sam"]
    assert said.out.splitlines()[2].replace("┃", " ").split()[-4:] == ["25", "%", "100", "%"]
    assert f"{done / 'fractions.html'}\n" in said.out
    assert "probe" not in said.err  # nothing was trained


def stop_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, when: Callable[..., bool]) -> None:
    """A SIGTERM before the calls of a function for which `when` holds."""
    called = vars(module)[name]

    def stopping(session: Any, *rest: Any, **named: Any) -> Any:
        if when(session, **named):
            os.kill(os.getpid(), signal.SIGTERM)
        return called(session, *rest, **named)

    monkeypatch.setattr(module, name, stopping)


def test_stopped_and_gone_on(
    small: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped as the first run ends, then within the second one: the same bits in the end, and the first only once."""
    out = tmp_path / "out"
    command = ["run", str(small), "--fractions", "0.25,1.0", "--out", str(out)]
    with monkeypatch.context() as patch:
        stop_at(patch, evaluation, "publish", lambda run, **_: "0.25" in str(run))
        assert main(command) == 75
    assert "vfmerge: SIGTERM: stopped before fraction 1.0; run again to go on\n" in capsys.readouterr().err
    assert list(models(out)) == ["fraction-0.25"]
    with monkeypatch.context() as patch:
        stop_at(patch, engine, "record", lambda session, *, step, **_: "1.0" in str(session.out) and step == 7)
        assert main(command) == 75
    said = capsys.readouterr().err
    assert "vfmerge: SIGTERM: stopped after step 7; run again to go on\n" in said
    assert said.count("probe 5/5") == 1
    assert not (out / "fractions.json").exists()
    assert main(command) == 0
    assert models(out) == models(done)
    assert (out / "fractions.json").read_bytes() == (done / "fractions.json").read_bytes()
    assert (out / "fractions.html").read_bytes() == (done / "fractions.html").read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "'0' is no fraction of the data; give numbers above 0, at most 1"),
        ("0.1,1.5", "'1.5' is no fraction of the data"),
        ("nan", "'nan' is no fraction of the data"),
        ("a", "'a' is no number; give for example 0.1,0.3,1.0"),
        ("", "'' is no number"),
        ("0.1,,1", "'' is no number"),
        ("0.1,1,1.0", "'1.0' is given twice; give each once"),
    ],
)
def test_bad_lists(given: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    assert main(["run", "quickstart", "--fractions", given]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("out", "change", "message"),
    [
        ("out", "seed=9", "fraction-0.25: was run with another recipe (seed); use --fresh"),
        ("out", "stages.adapt.warmup=3", "--fractions 0.25: stages.adapt.warmup: longer than the stage: 3; write at"),
        ("out", "stages.adapt.warmup=9", "vfmerge: stages.adapt.warmup: longer than the stage: 9; write at most 3"),
        ("out/fraction-1.0", "seed=0", "fraction-1.0: has files but no fractions of a run; give --out another folder"),
        ("out/fractions.json", "seed=0", "fractions.json: cannot be used (Not a directory); give --out another"),
    ],
)
def test_mistakes(
    small: Path, done: Path, out: str, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with one of the runs is said before the first."""
    where = done.parent / out
    assert main(["run", str(small), change, "--fractions", "0.25,1.0", "--out", str(where)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def row(metric: str, kept: float | None, **changes: object) -> Row:
    facts = {"parent": "sam", "capability": "promptable", "benchmark": "promptable", "data": "held_out", "n": 9}
    return Row(**(facts | {"metric": metric, "parent_value": 1.0, "merged_value": 0.5, "retention": kept} | changes))


def point(folder: Path, fraction: float, *rows: Row, steps: int = 9) -> Point:
    folder.mkdir(parents=True, exist_ok=True)
    retention.write(folder / "retention.json", rows)
    return fractions.read(folder, fraction=fraction, samples={"images": int(1000 * fraction)}, steps=steps)


def shapes(chart: str, kind: str) -> list[dict[str, str]]:
    return [each.attrib for each in ElementTree.fromstring(chart).iter() if each.get("class") == kind]


def test_what_has_no_retention_is_left_out(tmp_path: Path) -> None:
    """Parents that were not measured, costs, and controls."""
    rows = [row("box_miou", 0.9), row("point_miou", None), row("latency_ms", 1.5, benchmark="efficiency")]
    found = point(tmp_path, 0.1, *rows, row("box_miou", 0.1, control="naive"))
    assert [(each.metric, each.retention) for each in found.run.rows.values()] == [("box_miou", 0.9)]


def ticks(chart: str) -> list[str]:
    """What stands beside the axes, the vertical one first."""
    return [each.text or "" for each in ElementTree.fromstring(chart).iter("text") if each.get("class") == "tick"]


def test_the_chart() -> None:
    """Marks stand at their fraction's logarithm and at their retention, with intervals; no two lines look alike."""
    boxes = [row("box_miou", kept, ci_low=kept - 0.1, ci_high=1.0) for kept in (0.6, 0.7, 0.8)]
    points = [(0.1, row("point_miou", 0.7)), (1.0, row("point_miou", 0.5))]
    lines = {"box_miou": list(zip((0.01, 0.1, 1.0), boxes, strict=True)), "point_miou": points}
    chart = fractions.chart("x", lines)
    *marks, _ = shapes(chart, "mark first")  # the last is of the legend
    x, y = ([float(mark[key]) for mark in marks] for key in ("cx", "cy"))
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)
    assert x[0] < x[1]
    assert y[1] > y[2] > float(shapes(chart, "whole")[0]["y1"])
    assert len(shapes(chart, "spread first")) == 9
    assert shapes(chart, "spread second") == []
    assert ["cx" in mark for mark in shapes(chart, "mark second")] == [False] * 3  # nor is it told by colour alone
    assert ticks(chart)[-4:] == ["1 %", "100 %", "10 %", "share of the data, log scale"]
    told = "mean IoU from boxes 60.0 % (50.0 to 100.0) at 1 %, "
    assert told in chart
    assert "mean IoU from points 70.0 % at 10 %, 50.0 % at 100 % of the data." in chart


@pytest.mark.parametrize("kept", [0.0, 0.9999, 1.0, 3.0])
def test_a_chart_of_one_fraction(kept: float) -> None:
    """Its retention and 100 % are on the axis, which spans a tenth at least: a hair's breadth is no fall."""
    chart = fractions.chart("x", {"top1": [(0.3, row("top1", kept))]})
    *rungs, fraction, _ = ticks(chart)
    shown = [float(rung.removesuffix(" %")) for rung in rungs]
    assert fraction == "30 %"
    assert min(shown) <= min(100 * kept, 100) <= max(100 * kept, 100) <= max(shown)
    assert max(shown) - min(shown) >= 10


def test_the_page(tmp_path: Path) -> None:
    """A chart for each benchmark of a parent and data set; names are escaped, and nobody is asked for anything."""
    name = "<script>alert(1)</script>"
    rows = [row("box_miou", 0.9), row("point_miou", 0.8), row("top1", 0.7, parent=name, data="<b>", benchmark="<i>")]
    swept = row("box_miou fog", 0.5, benchmark="robustness")
    points = [point(tmp_path / str(f), f, *rows, swept, steps=9) for f in (0.1, 1.0)]
    text = fractions.render(points, name=name)
    assert text.count("<svg") == 2
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert text.count("&lt;script&gt;") >= 4
    assert "Robustness: mean IoU from boxes, fog" in text  # in the table alone
    assert "images: 100; 9 steps" in text
    assert "Every run takes 9 steps" in text
    assert "default-src 'none'" in text


def test_a_page_of_nothing(tmp_path: Path) -> None:
    """A recipe that measures nothing has a page that says so; fewer steps are said too."""
    text = fractions.render([point(tmp_path, 0.1, steps=5), point(tmp_path, 1.0, steps=50)], name="x")
    assert "Nothing was measured." in text
    assert "<svg" not in text
    assert "<table" not in text
    assert "5 to 50 steps" in text
