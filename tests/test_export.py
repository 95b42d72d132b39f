"""Exports in general: what is proved, what is refused, and that nothing is there that was not proved."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from vfmerge_adapters.exports import sam_state
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import cli, export
from vfmerge.errors import InputError, RunError
from vfmerge.model import MergedModel

GEOMETRY = {"depth": 2, "width": 32, "heads": 2, "global_blocks": [1], "decoder_width": 16, "decoder_mlp": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged model of random weights, with two CLIPs."""
    adapters = {
        "sam": SAM(variant="tiny", random=True, geometry=GEOMETRY),
        "clip": OpenCLIP(model="tiny", layers=1),
        "other": OpenCLIP(model="tiny", layers=1),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MergedModel(adapters, base="sam")
    out = tmp_path_factory.mktemp("run") / "merged"
    model.save(out, names={"sam": "sam", "clip": "open_clip", "other": "open_clip"}, texts={})
    return out


def test_the_command_says_what_was_compared(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each answer, with its largest difference and the tolerance; then how the file is loaded."""
    out = tmp_path / "deeper" / "sam.safetensors"
    assert cli.main(["export", str(folder), "--to", "sam", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    row = next(line.split() for line in said.splitlines() if line.startswith("box: mask logits"))
    assert float(row[-2]) <= float(row[-1]) == 1e-4
    assert f"written to {out}; load it with:" in said
    assert os.listdir(out.parent) == ["sam.safetensors"]


def test_a_runs_folder_is_its_models(folder: Path, tmp_path: Path) -> None:
    """`runs/NAME` will do for `runs/NAME/merged`."""
    made = export.export(folder.parent, kind="sam", out=tmp_path / "sam.pth")
    assert {each.answer for each in made.differences} >= {"box: scores", "points, three masks: mask logits"}


def test_what_answers_otherwise_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that changed on their way are found out: exit code 1, one line, and neither file nor left-over."""
    honest = sam_state.gather
    changed = "mask_decoder.iou_prediction_head.layers.2.bias"
    monkeypatch.setattr(sam_state, "gather", lambda network: (t := honest(network)) | {changed: t[changed] + 0.01})
    assert cli.main(["export", str(folder), "--to", "sam", "--out", str(tmp_path / "sam.pth")]) == 1
    assert "scores differs by 1.0e-02, more than 1e-04, so" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_loaded_is_not_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor too few is the other tool's error, told in one line."""
    honest = sam_state.gather
    monkeypatch.setattr(sam_state, "gather", lambda network: dict(list(honest(network).items())[1:]))
    with pytest.raises(RunError, match=r"what was written cannot be used \(RuntimeError: .*Missing key") as raised:
        export.export(folder, kind="sam", out=tmp_path / "sam.pth")
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "samm", "--out", "x.pth"], "no kind of export 'samm'; did you mean 'sam'?"),
        (["--to", "sam", "--out", "x.onnx"], "--out x.onnx: sam is one file; end its name in .safetensors or .pth"),
        (["--to", "sam", "--out", "there.pth"], "--out there.pth: is there already; choose another path, or move it"),
        (["--to", "open_clip", "--out", "there.pth"], "--out there.pth: is there already"),
        (["--to", "open_clip", "--out", "x"], "several would do; add --task clip or other"),
        (["--to", "open_clip", "--out", "x", "--task", "sam"], "--task sam: offers promptable, and open_clip needs"),
        (["--to", "open_clip", "--out", "x", "--task", "clp"], "--task: no 'clp' in this model; did you mean 'clip'?"),
        (["--to", "torch", "--out", "x", "--task", "clip"], "--task 'clip': torch takes the model whole; leave it out"),
    ],
)
def test_wrong_input(
    arguments: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and one line that names the option and the remedy; nothing is touched."""
    monkeypatch.chdir(tmp_path)
    Path("there.pth").write_text("mine")
    assert cli.main(["export", str(folder), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert os.listdir() == ["there.pth"]
    assert Path("there.pth").read_text() == "mine"


def test_no_model(tmp_path: Path) -> None:
    """A folder that is no merged model is said to be none."""
    with pytest.raises(InputError, match="holds no merged model"):
        export.export(tmp_path, kind="sam", out=tmp_path / "sam.pth")


def test_a_difference_that_is_no_number_is_not_small() -> None:
    """NaN, on either side, is never near enough."""
    numbers, holes = torch.zeros(3), torch.tensor([0.0, float("nan"), 0.0])
    for pair in ((numbers, holes), (holes, numbers)):
        (difference,) = export.compare({"x": pair[0]}, {"x": pair[1]}, tolerance=1e9)
        assert not difference.small


@pytest.mark.parametrize("answered", [{}, {"x": torch.zeros(2)}, {"x": torch.zeros(3), "y": torch.zeros(1)}])
def test_every_answer_is_compared(answered: dict[str, torch.Tensor]) -> None:
    """An answer that is missing, of another shape or not expected is a fault, not a difference of nothing."""
    with pytest.raises(RunError, match="please report it"):
        export.compare({"x": torch.zeros(3)}, answered, tolerance=1.0)


def test_the_pictures_are_the_same_each_time() -> None:
    """Wide, high and square ones of many colours, equal from call to call."""
    first, second = export.pictures(), export.pictures()
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert {np.sign(each.shape[0] - each.shape[1]) for each in first} == {-1, 0, 1}
    assert all(each.dtype == np.uint8 and each.std() > 40 for each in first)


def test_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """`vfmerge ls exports` says what a model can be written as."""
    assert cli.main(["ls", "exports"]) == 0
    said = capsys.readouterr().out
    assert "BROKEN" not in said
    assert {"sam", "open_clip", "torch", "onnx"} <= {line.split(" ")[0] for line in said.splitlines()}
