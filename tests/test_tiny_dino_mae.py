"""The tiny DINO and MAE and their scripts: timm reads the folders, they see shapes, and no label made them."""

from __future__ import annotations

import functools
import json
import sys
import types
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from safetensors import safe_open
from vfmerge_adapters import tiny
from vfmerge_adapters.tiny import train_dino, train_mae, train_vit

from vfmerge.data import shapes
from vfmerge.weights import digest

FOLDER = Path(tiny.__file__).parent
SCRIPTS = {"dino": train_dino, "mae": train_mae}
FLOORS = {"dino": ("k-NN top1", 0.55), "mae": ("linear probe top1", 0.55)}  # of held-out shapes; chance is 0.125


def trunk_of(vit: torch.nn.Module, script: ModuleType) -> train_vit.Trunk:
    assert isinstance(vit, timm.models.vision_transformer.VisionTransformer)
    return train_vit.Trunk(vit.eval(), mean=script.MEAN, std=script.STD)


def test_all_shipped_weights_are_small() -> None:
    """Together under 20 MB, these at most 3 MB each and as large as the README says; two files a folder."""
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) < 20e6
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in SCRIPTS:
        assert {path.name for path in (FOLDER / name).iterdir()} == {"config.json", "model.safetensors"}
        size = (FOLDER / name / "model.safetensors").stat().st_size
        assert size <= 3e6
        assert f"`{name}/model.safetensors`, {size / 1e6:.1f} MB" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_folder_is_timms_own(name: str) -> None:
    """timm builds the network from it and fills every tensor, the config says all that it takes to use it."""
    vit = timm.create_model(f"local-dir:{FOLDER / name}", pretrained=True)
    with safe_open(FOLDER / name / "model.safetensors", "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
    assert {tensor.dtype for tensor in kept.values()} == {torch.float16}
    assert kept.keys() == vit.state_dict().keys()
    assert all(torch.equal(kept[key].float(), tensor) for key, tensor in vit.state_dict().items())
    settings = timm.data.resolve_data_config(model=vit)
    assert (tuple(settings["mean"]), tuple(settings["std"])) == (SCRIPTS[name].MEAN, SCRIPTS[name].STD)
    assert tuple(settings["input_size"]) == (3, 64, 64)
    config = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))
    assert (config["num_classes"], config["pretrained_cfg"]["license"]) == (0, "apache-2.0")


@pytest.mark.parametrize("name", SCRIPTS)
def test_other_sizes_are_taken(name: str) -> None:
    """Pictures that are not of 64 pixels, nor square, have a cell for each patch."""
    trunk = trunk_of(train_vit.load(FOLDER / name), SCRIPTS[name])
    with torch.no_grad():
        features = trunk(torch.rand(1, 3, 96, 48))
    assert features.maps[0].shape == (1, 96, 12, 6)
    assert features.summary is not None
    assert features.summary.shape == (1, 96)


@pytest.mark.parametrize("name", SCRIPTS)
def test_held_out_shapes_are_told_apart(name: str) -> None:
    """DINO's nearest neighbours and MAE's linear probe: above a floor, and far above random weights."""
    what, floor = FLOORS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random = trunk_of(train_vit.build(**SCRIPTS[name].MORE), SCRIPTS[name])
    trained = trunk_of(train_vit.load(FOLDER / name), SCRIPTS[name])
    ours, theirs = (
        train_vit.shapes_apart(trunk, name=name, seed=0, known=600, asked=150)[what] for trunk in (trained, random)
    )
    assert ours >= max(floor, theirs + 0.30)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The scripts with a few pictures."""
    for script in SCRIPTS.values():
        monkeypatch.setattr(script, "SCENES", 16)
        monkeypatch.setattr(script, "BATCH", 4)
    return monkeypatch


@pytest.mark.parametrize("name", SCRIPTS)
def test_train(name: str, tmp_path: Path, short: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The script makes the same file from the same seed, another from another; it loads, and says what it measured."""
    script = SCRIPTS[name]
    short.setattr(script, "measure", functools.partial(script.measure, count=10, steps=2))
    out = [tmp_path / f"{number}" for number in range(3)]
    for path, seed in zip(out, (0, 0, 1), strict=True):
        run(script, path, seed=seed, monkeypatch=short)
    weights = [digest(path / "model.safetensors") for path in out]
    assert weights[0] == weights[1] != weights[2]
    config = json.loads((out[0] / "config.json").read_text(encoding="utf-8"))
    assert config["model_args"].items() >= script.MORE.items()
    train_vit.load(out[0])
    assert "held out, as saved: " in (told := capsys.readouterr().out)
    assert "k-NN top1 " in told
    assert "mIoU " in told


def test_the_mae_reads_no_label(tmp_path: Path, short: pytest.MonkeyPatch) -> None:
    """Scenes that are pictures and nothing else are enough to train on."""
    scene = shapes.scene
    short.setattr(shapes, "scene", lambda **asked: types.SimpleNamespace(image=scene(**asked).image))
    short.setattr(train_mae, "measure", lambda *asked: "nothing")
    run(train_mae, tmp_path, seed=0, monkeypatch=short)
    assert (tmp_path / "model.safetensors").exists()


def test_the_dino_reads_pairs_of_pictures_alone(tmp_path: Path, short: pytest.MonkeyPatch) -> None:
    """No scene, with its names, masks and caption, is ever drawn."""
    short.setattr(shapes, "scene", None)
    short.setattr(train_dino, "measure", lambda *asked: "nothing")
    run(train_dino, tmp_path, seed=0, monkeypatch=short)
    assert (tmp_path / "model.safetensors").exists()


def run(script: ModuleType, out: Path, *, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of a script as `python -m` runs it."""
    monkeypatch.setattr(sys, "argv", [script.__name__, "--out", str(out), "--steps", "2", "--seed", str(seed)])
    with torch.random.fork_rng(devices=[]):
        script.main()
