"""What was exported, measured by the benchmarks of the model's recipe through the other tool's own code."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from vfmerge_adapters.exports import graph_capabilities
from vfmerge_adapters.exports.graph_proof import eager
from vfmerge_adapters.exports.graphs import graphs, tasks
from vfmerge_adapters.exports.predicted import PredictedImage
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.promptable.head import PromptedHead
from vfmerge_adapters.promptable.prompts import Prompts
from vfmerge_adapters.sam import SAM

from vfmerge import cli, config, export, figures
from vfmerge.adapter import Features
from vfmerge.benchmarks.promptable import Promptable
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.data.world import Shapes
from vfmerge.model import MergedModel, load

RECIPE = """\
base: sam
parents:
  sam: {adapter: sam, options: {variant: tiny}}
  clip: {adapter: open_clip, options: {model: tiny, layers: 1}}
data:
  objects: {kind: shapes, layout: single, split: held-out, count: 12, size: 64, masks: false}
  scenes: {kind: shapes, layout: several, split: held-out, count: 3, size: 96}
  elsewhere: {kind: folder, path: not_on_this_machine}
evaluate:
  classify: {benchmark: zero_shot_classification, data: objects}
  prompts: {benchmark: promptable, data: scenes}
  probe: {benchmark: knn, data: elsewhere, train: elsewhere}
stages: {}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose merge began and learnt nothing: the shipped SAM, with a CLIP's new head."""
    adapters = {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny", layers=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MergedModel(adapters, base="sam")
        model.start({name: adapter.teacher() for name, adapter in adapters.items()})
    folder = tmp_path_factory.mktemp("measured")
    model.save(folder / "merged", names={"sam": "sam", "clip": "open_clip"}, texts={})
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def scenes() -> Shapes:
    return Shapes(layout="several", split="held-out", count=3, size=96)


def test_masks_of_the_predictor(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`SamPredictor` on the written file scores as the model does, though other data of the recipe are not here."""
    made = export.export(run, kind="sam", out=tmp_path / "sam.pth", measure=[])
    scores = Promptable().measure(load(run / "merged").capabilities(), scenes())
    assert [(each.task, each.metric, each.n) for each in made.figures] == [(s.task, s.metric, s.n) for s in scores]
    for figure, score in zip(made.figures, scores, strict=True):
        assert figure.exported == pytest.approx(score.value, abs=1e-4)
        assert figure.model == score.value > 0.5  # it does outline things


def test_embeddings_of_open_clip(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Classification by open_clip's own model, preprocessing and tokenizer; the command shows it beside the model's."""
    arguments = ["export", str(run), "--to", "open_clip", "--out", str(tmp_path / "clip"), "--measure"]
    assert cli.main([*arguments, "data.objects.count=9"]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("clip  classify")]
    assert row[2] == "top1"
    assert row[3] == row[4]
    assert row[5] == "9"


def test_another_figure_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tool that answers the proof's few questions right but measures otherwise: exit code 1, one line, no file."""
    honest = PredictedImage.predict

    def empty(self: PredictedImage, **prompts: Any) -> tuple[Tensor, Tensor]:
        logits, ious = honest(self, **prompts)
        return -logits.abs() - 1, ious

    monkeypatch.setattr(PredictedImage, "predict", empty)
    assert cli.main(["export", str(run), "--to", "sam", "--out", str(tmp_path / "sam.pth"), "--measure"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"--to sam: prompts box_miou is 0\.0000, and the model's 0\.\d+, so .* was not written", said)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.objects.count=9"], "data.objects.count=9: changes what is measured; add --measure, or leave it out"),
        (["--measure", "evaluate.prompts.benchmark=knn"], "nothing there measures what was exported; add promptable"),
        (["--measure", "data.scenes.count=some"], "data.scenes.count"),
        (["--measure", "data.scnes.count=2"], "data.scnes"),
    ],
)
def test_wrong_input(
    arguments: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line, before anything is written."""
    assert cli.main(["export", str(run), "--to", "sam", "--out", str(tmp_path / "sam.pth"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert os.listdir(tmp_path) == []


def test_a_size_that_open_clip_does_not_take(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told with the key to change."""
    arguments = ["export", str(run), "--to", "open_clip", "--out", str(tmp_path / "clip"), "--measure"]
    assert cli.main([*arguments, "evaluate.classify.size=48"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "evaluate.classify: size: 48, and open_clip looks at 64 x 64 alone; give null" in said
    assert os.listdir(tmp_path) == []


def test_graphs_are_measured_as_the_model(run: Path) -> None:
    """All that benchmarks ask is answered from graphs: masks of boxes and points, cells and texts."""
    model, made = load(run / "merged"), config.read(run / "merged")
    cut = {each.name: each for each in graphs(model, tasks(model, made=made))}
    asked: list[str] = []

    def answer(name: str, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        asked.append(name)
        return eager(cut[name].module)(given)

    found = graph_capabilities.capabilities(model, cut.values(), answer)
    for benchmark in (Promptable(), ZeroShotSegmentation(grid=4)):
        theirs, ours = (benchmark.measure(each, scenes()) for each in (found, model.capabilities()))
        assert [each.value for each in theirs] == pytest.approx([each.value for each in ours], abs=1e-6)
    assert {"encoder_96", "sam_neck", "sam_decoder", "clip_head_64", "clip_text"} <= set(asked)


class Alike(PromptedHead):
    """A head that decodes prompts of as many points alone, as SAM 2's."""

    alike = True

    def embed(self, features: Features) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def decode(self, maps: tuple[Tensor, ...], prompts: Prompts, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def single(self, logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
        return logits[:, :1], ious[:, :1]


def test_prompts_of_unlike_numbers_of_points_are_parted() -> None:
    """Each call of the graph has prompts of one number of points; answers come back in the order of the prompts."""
    lengths: list[int] = []

    def answer(name: str, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        coords, labels, owner = given[:3]
        assert name == "sam_decoder"
        assert (labels[:, :-1] >= 0).all()
        lengths.append(labels.shape[1])
        first = coords[:, 0, :1]
        return first.view(-1, 1, 1, 1), owner[:, None].float()

    labels = torch.tensor([[1, -1], [2, 3], [1, -1]])
    coords = torch.arange(12.0).view(3, 2, 2)
    prompts = Prompts(owner=torch.tensor([2, 0, 1]), coords=coords, labels=labels)
    logits, ious = graph_capabilities.GraphHead("sam", Alike(side=8), answer).decode((), prompts, (8, 8))
    assert logits.flatten().tolist() == [0.0, 4.0, 8.0]
    assert ious.flatten().tolist() == [2.0, 0.0, 1.0]
    assert lengths == [2, 3]


def test_among_few_things_one_may_differ() -> None:
    """A tie among ten pictures decides a tenth of the figure; among many, a tenth of a point is the most."""

    def figure(exported: float, n: int) -> figures.Figure:
        return figures.Figure(evaluation="e", data="d", task="t", metric="m", model=0.5, exported=exported, n=n)

    assert figure(0.6, 10).same
    assert not figure(0.61, 10).same
    assert figure(0.5009, 10_000).same
    assert not figure(0.5011, 10_000).same
    assert not figure(float("nan"), 10).same
