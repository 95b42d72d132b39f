"""What one sees of long work: lines or a bar, and TensorBoard with the numbers of metrics.jsonl."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from vfmerge.progress import Bar
from vfmerge.track import Tracker


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each interval and one at the end: how far, how fast, how long still, and the note; on stderr."""
    with Bar("probe", total=11, every=4) as bar:
        for step in range(11):
            bar.advance(note=f"loss {step}")
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    form = re.compile(r"probe (\d+)/11  \d+\.\d/s  (\d+) s left  (loss \d+)")
    told = [found.groups() for found in map(form.fullmatch, lines) if found]
    assert len(told) == len(lines)
    assert [(done, note) for done, _, note in told] == [("4", "loss 3"), ("8", "loss 7"), ("11", "loss 10")]


def test_lines_of_a_run_that_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before counts as done, and not for the rate: ten steps in five seconds are two a second."""
    clock = iter([100.0, 105.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Bar("distill", total=100, done=50, every=10) as bar:
        bar.advance(10)
    assert capsys.readouterr().err == "distill 60/100  2.0/s  20 s left\n"


def test_steps_that_jump_over_an_interval(capsys: pytest.CaptureFixture[str]) -> None:
    """Several at a time are one line where they pass an interval's end, none where they do not."""
    with Bar("cache", total=100, every=10) as bar:
        for steps in (7, 2, 24):
            bar.advance(steps)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["33/100"]


def test_lines_of_what_nobody_knows_the_end_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far and how fast, at each interval."""
    clock = iter([100.0, 105.0, 110.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Bar("calibrating", total=None, every=10) as bar:
        for steps in (10, 4, 16):
            bar.advance(steps)
    assert capsys.readouterr().err == "calibrating 10  2.0/s\ncalibrating 30  3.0/s\n"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Title, count, time left and note; no line for each interval."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with Bar("probe", total=8, every=2) as bar:
        for _ in range(8):
            bar.advance(note="loss 0.25")
    said = capsys.readouterr().err
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert "8/8" in plain
    assert "loss 0.25" in plain
    assert "━" in plain
    assert "s left" not in plain


def test_a_run_tells_its_losses(finished: Path) -> None:
    """Every number of metrics.jsonl that changes is in the event file, step by step, as TensorBoard reads it."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    names = {"loss", "loss.0.clip.cosine", "loss.1.sam.focal", "rate.trunk", "gradient_norm"}
    assert {name.replace(".", "/", 1) for name in names} <= set(events.Tags()["scalars"])
    for name in names:
        found = [(event.step, event.value) for event in events.Scalars(name.replace(".", "/", 1))]
        wanted = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line]
        assert found == wanted


def test_going_on_rewrites_no_step_twice(tmp_path: Path) -> None:
    """Steps after the checkpoint, which a resumed run takes again, are shown once."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, stop in ((0, 6), (4, 8)):
        tracker = Tracker(tmp_path)
        tracker.rewind(start)
        for step in range(start + 1, stop + 1):
            tracker.write(
                {"step": step, "loss": float(step + start), "stage": "s", "skipped": 0, "gradient_norm": None}
            )
        tracker.close()
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (6, 10), (7, 11), (8, 12)]


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed nothing is written, and nothing fails."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tracker = Tracker(tmp_path / "tensorboard")
    tracker.rewind(0)
    tracker.write({"step": 1, "loss": 1.0})
    tracker.close()
    assert not (tmp_path / "tensorboard").exists()
