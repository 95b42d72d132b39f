"""`vfmerge eval` and what a finished run leaves for other people."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from vfmerge_adapters.open_clip import OpenCLIP

import vfmerge
from vfmerge import checkpoint, commit, engine, measurement, recipe, retention, signals
from vfmerge.benchmarks.promptable import Promptable
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


def teach_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing can be trained, nor taken from a checkpoint."""
    monkeypatch.setattr(engine, "train", lambda *args, **more: pytest.fail("trained again"))


def files(run: Path) -> dict[str, bytes]:
    """The model's folder, and the table."""
    return {path.name: path.read_bytes() for path in [*(run / "merged").iterdir(), run / "retention.json"]}


def test_a_model_is_saved_whatever_measuring_finds(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A size that the trunk cannot take is known too late: exit 2, but the model is there and can be measured."""
    run = tmp_path / "run"
    for _ in range(2):
        assert main(["run", str(small), "evaluate.classify.size=50", "--out", str(run)]) == 2
        where, what = capsys.readouterr().err.splitlines()[-2:]
        assert where.startswith(f"the model is saved in {run / 'merged'};")
        assert f"`vfmerge eval {run} KEY=VALUE`" in where
        assert "evaluate.classify" in what
        assert "Not measured yet" in (run / "merged" / "README.md").read_text()
        assert vfmerge.load(run / "merged").base == "sam"
        assert not (run / "retention.json").exists()
    assert main(["eval", str(run), "evaluate.classify.size=32"]) == 0
    rows = retention.read(run / "retention.json")
    assert {row.metric for row in rows} == {"top1", "box_miou", "point_miou"}
    text = (run / "merged" / "README.md").read_text()
    assert retention.markdown(rows) in text
    assert "Not measured yet" not in text
    told = (run / "merged" / "recipe.yaml").read_text()
    assert yaml.safe_load(told)["evaluate"]["classify"]["size"] == 32
    assert told in text
    commit.verify(run / "merged")
    capsys.readouterr()
    assert main(["run", str(small), "evaluate.classify.size=50", "--out", str(run)]) == 0  # it has figures now
    assert "box_miou" in capsys.readouterr().out


def of_a_signal(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    measurement.Bars(signals._watched[0]).tell("a picture", 0, 1)


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "evaluate.prompts: out of memory while merged is measured;"),
        (ZeroDivisionError("in a plug-in"), 70, "ZeroDivisionError: in a plug-in"),
        (KeyboardInterrupt(), 75, "stopped"),
        (of_a_signal, 75, "SIGINT: stopped while measuring; run again to go on"),
    ],
)
def test_a_run_goes_on_with_measuring(
    small: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: BaseException | Callable[..., None],
    code: int,
    line: str,
) -> None:
    """Whatever broke it off, the model is there, which is told; the same command ends as if nothing had been."""
    run, whole = tmp_path / "run", Promptable.measure

    def broken(self: Promptable, model: dict[str, object], *more: object) -> object:
        if len(model) == 1:
            return whole(self, model, *more)  # type: ignore[arg-type]
        if isinstance(fault, BaseException):
            raise fault
        return fault()

    with monkeypatch.context() as patch:
        patch.setattr(Promptable, "measure", broken)
        assert main(["run", str(small), "--out", str(run)]) == code
    where, what = [line for line in capsys.readouterr().err.splitlines() if line][-2:]
    assert where.startswith(f"the model is saved in {run / 'merged'}; run again to measure it, or ")
    assert line in what
    assert vfmerge.load(run / "merged").base == "sam"
    assert "Not measured yet" in (run / "merged" / "README.md").read_text()
    assert not (run / "cache").exists()
    teach_no_more(monkeypatch)
    assert main(["run", str(small), "--out", str(run)]) == 0
    assert files(run) == files(finished)


def test_another_evaluation_is_no_other_recipe(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is measured may change: the model stays, its figures, its card and the recipe are of what is asked now."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    teach_no_more(monkeypatch)
    before = files(run)
    assert main(["run", str(small), "evaluate.prompts.promptable=clip", "--out", str(run)]) == 2
    assert files(run) == before  # what cannot be measured costs no figures
    (run / "picture.png").touch()
    (run / "gallery").mkdir()
    change = "evaluate={again: {benchmark: promptable, data: held_out, masks: 1}}"
    capsys.readouterr()
    assert main(["run", str(small), change, "--out", str(run)]) == 0
    captured = capsys.readouterr()
    assert f"{run} is measured again" in captured.err
    assert "box_miou" in captured.out
    assert "top1" not in captured.out
    assert not (run / "picture.png").exists()
    assert not (run / "gallery").exists()
    after = files(run)
    assert {name for name in before if before[name] != after[name]} == {
        "README.md", "recipe.yaml", "MANIFEST.json", "retention.json",
    }  # fmt: skip
    assert list(recipe.load(str(run / "recipe.yaml")).evaluate) == ["again"]
    assert b"again:" in after["README.md"]
    assert b"top1" not in after["README.md"].split(b"## Use")[0]
    assert main(["run", str(small), "--out", str(run)]) == 0
    assert files(run) == before


def test_a_run_is_trained_on_with_another_evaluation(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed half-way, `evaluate` is no reason to begin again."""
    run, save = tmp_path / "run", checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", lambda *args, **more: (save(*args, **more), terminate())[0])
        assert main(["run", str(small), "evaluate={}", "--out", str(run)]) == 75
    assert main(["run", str(small), "--out", str(run)]) == 0
    assert files(run) == files(finished)


def terminate() -> None:
    if signals._watched[0].name is None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_without_its_report_is_finished_later(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is written last: what broke off before it is measured again, and drawn."""
    teach_no_more(monkeypatch)
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "report.html").unlink()
    assert main(["run", str(small), "--out", str(run)]) == 0
    assert (run / "report.html").exists()
    assert files(run) == files(finished)


def test_a_card_keeps_what_people_wrote(finished: Path, tmp_path: Path) -> None:
    """Measured again, it is given its figures, and no other line of it changes; a card that was deleted stays away."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    card = run / "merged" / "README.md"
    written = card.read_text("utf-8").replace("## Use\n", "## Use\n\nAsk *Zoë* about it.\n")
    card.write_text(written.replace("| 0.", "| 9."), "utf-8")
    assert main(["eval", str(run)]) == 0
    assert card.read_text("utf-8") == written
    card.unlink()
    assert main(["eval", str(run)]) == 0
    assert not card.exists()


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


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two folders of sixty pictures, of which one is torn."""
    for number, name in enumerate(("red circle", "blue square")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(60):
            grey = np.full((32, 32, 3), 100 * number + index, dtype=np.uint8)
            Image.fromarray(grey).save(tmp_path / "pictures" / name / f"{index:02}.png")
    (tmp_path / "pictures" / "red circle" / "07.png").write_bytes(b"\x89PNG broken")
    return tmp_path / "pictures"


def test_no_picture_is_left_out_in_silence(
    finished: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One is told how many, the file beside the table and the report name each; also where scores are remembered."""
    monkeypatch.setenv("VFMERGE_CACHE", str(tmp_path / "cache"))
    run, held_out = tmp_path / "run", f"data.held_out_single={{kind: folder, path: {pictures}, labels: true}}"
    shutil.copytree(finished, run)
    shutil.copytree(finished / "merged", tmp_path / "model")
    for path, table in ((run, run / "left_out.jsonl"), (tmp_path / "model", tmp_path / "model.left_out.jsonl")):
        assert main(["eval", str(path), held_out]) == 0
        assert f"1 of 120 pictures of held_out_single; they are named in {table}" in capsys.readouterr().err
        (line,) = map(json.loads, table.read_text().splitlines())
        assert (line["data"], line["among"]) == ("held_out_single", 120)
        assert "red circle/07.png" in line["reason"]
    assert {row.n for row in retention.read(run / "retention.json") if row.metric == "top1"} == {119}
    assert "red circle/07.png" in (run / "report.html").read_text()
    assert main(["eval", str(run)]) == 0  # on the whole data again
    assert "left_out.jsonl" not in capsys.readouterr().err
    assert not (run / "left_out.jsonl").exists()
    assert "in no figure" not in (run / "report.html").read_text().lower()
