"""Controls: what they are made of, and that they are trained and measured by one word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from vfmerge import controls, measurement, model, parts, recipe, retention
from vfmerge.cli import main
from vfmerge.errors import InputError
from vfmerge.recipe import Recipe
from vfmerge.retention import Row


def derived(name: str, *changes: str, control: str) -> Recipe:
    plan = recipe.load(name, changes)
    return controls.TRAINED[control](plan, parts.build_sources(plan))


def test_naive_is_the_recipe_that_shows_forgetting() -> None:
    """`shapes_naive` is what the control makes of `shapes`."""
    assert derived("shapes", control="naive").stages == recipe.load("shapes_naive").stages


def test_naive_drops_rehearsal_and_care() -> None:
    """No task and no rate of the base, the trunk at the head's rate; other stages stay as they are."""
    plan, bare = recipe.load("quickstart"), derived("quickstart", control="naive")
    assert plan.stages["distill"].train == {"trunk": 5e-4, "heads.sam": 5e-4, "heads.clip": 1e-3}
    assert bare.stages["distill"].train == {"trunk": 1e-3, "heads.clip": 1e-3}
    assert [stream.tasks for stream in bare.stages["distill"].streams] == [{"clip": 1.0}]
    assert bare.stages["probe"] == plan.stages["probe"]
    assert bare.evaluate == {}


def test_probe_trains_heads_alone_for_as_many_steps() -> None:
    """The trunk is in no stage, whatever the recipe said."""
    plan, bare = recipe.load("quickstart"), derived("quickstart", control="probe")
    assert [stage.train for stage in bare.stages.values()] == [
        {"heads.clip": 2e-3},
        {"heads.clip": 1e-3},
        {"heads.clip": 1e-3},
    ]
    assert [stage.steps for stage in bare.stages.values()] == [stage.steps for stage in plan.stages.values()]


def test_epochs_are_those_of_the_whole_recipe() -> None:
    """An epoch is a pass over the first stream's data, even where that stream is the one that is dropped."""
    changes = ["stages.distill.steps=null", "stages.distill.epochs=0.5", "data.scenes.count=80"]
    changes.append(
        "stages.distill.streams=[{data: scenes, size: 96, batch: 4, fit: pad, tasks: {sam: 10}},"
        " {data: images, size: 64, batch: 32, tasks: {clip: 1}}]"
    )
    assert derived("quickstart", *changes, control="naive").stages["distill"].steps == 10


def test_a_recipe_that_learns_nothing_new_has_no_controls() -> None:
    """A base that only rehearses itself is refused in one line."""
    changes = ["stages={only: {steps: 1, train: {trunk: 1e-3}, streams: [{data: scenes, size: 96, batch: 2, fit: pad, "]
    changes = [changes[0] + "tasks: {sam: 1}}]}}"]
    with pytest.raises(InputError, match="no controls"):
        derived("quickstart", *changes, control="naive")


def test_interpolation_meets_both_ends() -> None:
    """At 0 it is the first, at 1 the last, between them the straight line; whole numbers are the first's."""
    first = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    last = {"w": torch.tensor([1.0, 4.0]), "n": torch.tensor(9)}
    assert controls.interpolate(first, last, share=0.0)["w"].tolist() == [0.0, 2.0]
    assert controls.interpolate(first, last, share=1.0)["w"].tolist() == [1.0, 4.0]
    assert controls.interpolate(first, last, share=0.25)["w"].tolist() == [0.25, 2.5]
    assert controls.interpolate(first, last, share=0.75)["n"] == 3


@pytest.fixture(scope="module")
def controlled(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run with its controls, made by the command line."""
    run = tmp_path_factory.mktemp("controlled") / "run"
    shutil.copytree(finished, run)
    segment = (
        "{benchmark: zero_shot_segmentation, data: held_out, size: 48, two_head_size: 48, templates: plain, grid: 4}"
    )
    assert main(["eval", str(run), "--controls", f"evaluate.segment={segment}", "--save-predictions"]) == 0
    return run


def rows_of(run: Path) -> dict[tuple[str | None, str], Row]:
    return {(row.control, row.metric): row for row in retention.read(run / "retention.json")}


def test_one_word_trains_and_measures_all_controls(controlled: Path) -> None:
    """Each control has its rows beside the merged model's, against the same parents."""
    rows = rows_of(controlled)
    curve = {f"wise_ft_{share:g}" for share in controls.SHARES}
    assert {control for control, _ in rows} == {None, "naive", "probe", "cascade", "pipeline", *curve}
    for control in ("naive", "probe", *curve):
        assert rows[control, "box_miou"].parent_value == rows[None, "box_miou"].parent_value
    assert {metric for control, metric in rows if control == "cascade"} == {"miou_cascade"}
    assert {metric for control, metric in rows if control == "pipeline"} == {"miou_head", "miou_two_heads"}


def test_the_card_is_of_the_model_alone(controlled: Path) -> None:
    """It has the figures of `eval`, and of no control; its recipe is the one that they were measured by."""
    own = [row for row in retention.read(controlled / "retention.json") if row.control is None]
    assert "miou_two_heads" in {row.metric for row in own}
    text = (controlled / "merged" / "README.md").read_text()
    assert retention.markdown(own) in text
    assert "two_head_size: 48" in text


def test_a_control_that_keeps_the_trunk_keeps_the_base(controlled: Path) -> None:
    """Head probing leaves SAM exactly what it was, and so does the base's end of the interpolation."""
    rows = rows_of(controlled)
    for control in ("probe", "wise_ft_0"):
        assert rows[control, "box_miou"].retention == pytest.approx(1.0, abs=1e-6)
    assert rows["pipeline", "miou_head"].retention == pytest.approx(1.0, abs=1e-6)


def test_interpolations_lie_between_their_ends(controlled: Path) -> None:
    """Half way, the trunk is half way; the head is the naive one's."""
    naive = model.load(controlled / "controls" / "naive" / "merged")
    base = parts.build_adapters(recipe.load(str(controlled / "recipe.yaml")))["sam"].teacher()
    name = "blocks.0.mlp.lin1.weight"
    half = {subject.control: subject for subject in controls.curve(naive, base.trunk)}["wise_ft_0.5"]
    trunk, head = half.capabilities["clip"].network.trunk.state_dict(), half.capabilities["clip"].network.head
    ends = base.trunk.state_dict()[name], naive.trunk.state_dict()[name]
    mixed = next(value for key, value in trunk.items() if key.endswith(name))
    assert torch.allclose(mixed, sum(ends) / 2)
    assert not torch.equal(*ends)
    assert torch.equal(head.mlp[0].weight, naive.heads["clip"].mlp[0].weight)


def test_controls_that_are_there_are_measured_again(controlled: Path, tmp_path: Path) -> None:
    """Without the word nothing is trained, and nothing is lost from the table."""
    run = tmp_path / "run"
    shutil.copytree(controlled, run)
    before = {path: path.stat().st_mtime_ns for path in (run / "controls").rglob("*") if path.is_file()}
    assert main(["eval", str(run)]) == 0
    assert {control for control, _ in rows_of(run)} >= {None, "naive", "probe", "wise_ft_0.5", "pipeline"} - {
        "pipeline"
    }
    assert before == {path: path.stat().st_mtime_ns for path in (run / "controls").rglob("*") if path.is_file()}


def test_a_model_without_its_run_has_no_controls(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Controls need the run's data and stages: exit 2, one line."""
    shutil.copytree(finished / "merged", tmp_path / "model")
    assert main(["eval", str(tmp_path / "model"), "--controls"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--controls" in line


def test_predictions_of_every_model_are_written(controlled: Path) -> None:
    """A folder an evaluation and model; their figures can be had again from them."""
    folders = {path.name for path in (controlled / "predictions" / "classify").iterdir()}
    assert {"clip_alone", "merged", "naive", "probe", "wise_ft_0.5"} <= folders
    lines = (controlled / "predictions" / "classify" / "merged" / "predictions.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]
    top1 = sum(answer["ranked"][0] == answer["label"] for answer in answers) / len(answers)
    assert top1 == pytest.approx(rows_of(controlled)[None, "top1"].merged_value)


def test_gallery_has_a_column_for_each_model(controlled: Path) -> None:
    """Picture, truth, parents, controls and the merged model, for each picture shown."""
    index = json.loads((controlled / "gallery" / "gallery.json").read_text())
    keys = [column["key"] for column in index["columns"]]
    assert keys == ["picture", "truth", "sam", "clip", "pipeline", "cascade", "probe", "naive", "merged"]
    for row in index["rows"]:
        assert row["rank"] in ("best", "median", "worst")
        for cell in row["cells"]:
            assert (controlled / "gallery" / cell["file"]).is_file()
    assert (controlled / "report.html").stat().st_size > 10_000


def test_scores_are_remembered_by_weights_data_and_protocol(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time nothing is measured; another protocol, or `--fresh`, is measured."""
    monkeypatch.setenv("VFMERGE_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    told: list[str] = []
    tell = measurement.Bars.tell
    monkeypatch.setattr(measurement.Bars, "tell", lambda self, *told_: (told.append(told_[0]), tell(self, *told_)))
    assert main(["eval", str(run)]) == 0
    first = (run / "retention.json").read_text()
    assert {"classify: clip alone", "classify: merged"} <= set(told)
    told.clear()
    assert main(["eval", str(run)]) == 0
    assert told == []
    assert (run / "retention.json").read_text() == first
    assert main(["eval", str(run), "evaluate.prompts.masks=1"]) == 0
    assert set(told) == {"prompts: sam alone", "prompts: merged"}
    told.clear()
    assert main(["eval", str(run), "--fresh"]) == 0
    assert {"classify: clip alone", "classify: merged"} <= set(told)
