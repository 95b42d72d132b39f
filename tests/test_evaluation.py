"""`vfmerge eval` and what a finished run leaves for other people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vfmerge_adapters.open_clip import OpenCLIP

import vfmerge
from vfmerge import engine, recipe, retention
from vfmerge.cli import main
from vfmerge.errors import CheckpointError
from vfmerge.views.segmentation import SegmentationViews

KEYS = {"parent", "capability", "benchmark", "data", "metric", "parent_value", "merged_value", "retention", "n"}
KEYS |= {"ci_low", "ci_high", "control"}


def test_a_run_is_measured_again_with_the_same_figures(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`eval RUN` gives what the run itself ended with, and prints it."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = (run / "retention.json").read_text()
    (run / "retention.json").unlink()
    assert main(["eval", str(run)]) == 0
    assert (run / "retention.json").read_text() == before
    assert "box_miou" in capsys.readouterr().out
    rows = json.loads(before)
    assert all(set(row) == KEYS for row in rows)
    assert {row["metric"] for row in rows} == {"top1", "box_miou", "point_miou"}


def test_a_models_folder_is_measured_wherever_it_lies(finished: Path, tmp_path: Path) -> None:
    """`eval MODEL` needs no run; the folder itself is left as it is."""
    model = tmp_path / "elsewhere" / "model"
    shutil.copytree(finished / "merged", model)
    names = sorted(path.name for path in model.iterdir())
    assert main(["eval", str(model)]) == 0
    assert retention.read(model.with_name("model.retention.json")) == retention.read(finished / "retention.json")
    assert sorted(path.name for path in model.iterdir()) == names


def test_a_parent_that_cannot_be_opened_is_left_out(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The merged model is measured all the same, and the parent's value is null."""
    model = tmp_path / "model"
    shutil.copytree(finished / "merged", model)

    def gone(self: OpenCLIP) -> None:
        raise CheckpointError("clip.safetensors: is not there; fetch the file again")

    monkeypatch.setattr(OpenCLIP, "teacher", gone)
    assert main(["eval", str(model)]) == 0
    rows = {row.metric: row for row in retention.read(tmp_path / "model.retention.json")}
    assert rows["top1"].parent_value is None
    assert rows["top1"].retention is None
    assert rows["box_miou"].parent_value is not None
    assert "parent clip is not measured" in capsys.readouterr().err


def test_a_run_is_reported_without_a_parent(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs the parent that cannot be opened is left out of the table, the gallery and the report."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)

    def gone(self: OpenCLIP) -> None:
        raise CheckpointError("clip.safetensors: is not there; fetch the file again")

    monkeypatch.setattr(OpenCLIP, "teacher", gone)
    (run / "report.html").unlink()
    segment = "{benchmark: zero_shot_segmentation, data: held_out, size: 48, two_head_size: 48, templates: plain}"
    assert main(["eval", str(run), f"evaluate.segment={segment}"]) == 0
    columns = json.loads((run / "gallery" / "gallery.json").read_text())["columns"]
    assert [column["key"] for column in columns] == ["picture", "truth", "sam", "merged"]
    assert "miou_two_heads" in (run / "report.html").read_text()


def test_figures_stand_without_pictures(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing can be drawn, that is said, and table and report are written."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    monkeypatch.setattr(SegmentationViews, "crowd", lambda views, sample: 0)
    segment = "{benchmark: zero_shot_segmentation, data: held_out, size: 48, two_head_size: 48, templates: plain}"
    assert main(["eval", str(run), f"evaluate.segment={segment}"]) == 0
    assert "no pictures in the report" in capsys.readouterr().err
    assert "miou_two_heads" in (run / "report.html").read_text()


def test_a_published_model_names_no_path_of_its_maker(small: Path, tmp_path: Path) -> None:
    """Card, config and recipe of `merged/` hold no absolute path; `eval` is told where the pictures are now."""
    pictures = tmp_path / "secret place"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(random.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(pictures / f"{number}.png")
    changes = ["data.images.kind=folder", f"data.images.path={pictures}"]
    text = small.read_text().replace(
        "{kind: shapes, layout: mixed, split: train, count: 24, size: 32, masks: false}", "{kind: folder, path: ???}"
    )
    own = tmp_path / "own.yaml"
    own.write_text(text)
    engine.run(recipe.load(str(own), changes), tmp_path / "run", name="own")
    merged = tmp_path / "run" / "merged"
    for path in merged.glob("*.*"):
        assert b"secret place" not in path.read_bytes(), path.name
    assert "secret place" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert main(["eval", str(tmp_path / "run")]) == 0
    alone = tmp_path / "alone"
    shutil.copytree(merged, alone)
    assert main(["eval", str(alone)]) == 2
    assert main(["eval", str(alone), f"data.images.path={pictures}"]) == 0


def test_a_model_is_saved_whatever_measuring_finds(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A size that the trunk cannot take is known too late: exit 2, but the model is there and can be measured."""
    run = tmp_path / "run"
    assert main(["run", str(small), "evaluate.classify.size=50", "--out", str(run)]) == 2
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert "evaluate.classify" in first
    assert "vfmerge eval" in second
    assert vfmerge.load(run / "merged").base == "sam"
    assert main(["run", str(small), "evaluate.classify.size=50", "--out", str(run)]) == 0
    assert main(["eval", str(run), "evaluate.classify.size=32"]) == 0
    assert {row.metric for row in retention.read(run / "retention.json")} == {"top1", "box_miou", "point_miou"}


def test_what_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder is exit 2 and one line."""
    (tmp_path / "empty").mkdir()
    assert main(["eval", str(tmp_path / "empty")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_finished_run_keeps_no_cache(finished: Path) -> None:
    """Frozen features are deleted once nothing needs them; the merged model loads."""
    assert not (finished / "cache").exists()
    assert vfmerge.load(finished / "merged").base == "sam"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("stages.distill.streams.1.data=images", "masks"),
        ("evaluate.prompts.promptable=clipp", "clipp"),
        ("evaluate.prompts.promptable=clip", "image_text"),
    ],
)
def test_what_cannot_be_learnt_or_measured_is_said_before_training(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, word: str
) -> None:
    """A mask task without masks, a role without a parent, or with the wrong one: exit 2, one line, nothing trained."""
    assert main(["run", str(small), change, "--out", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert word in lines[0]
    assert not (tmp_path / "run" / "checkpoints").exists()
