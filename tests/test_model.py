"""The merged model: it starts as its parents, and is rebuilt without them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

import vfmerge
from vfmerge import commit, recipe, rules
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.errors import CheckpointError, InputError
from vfmerge.model import MergedModel

NAMES = {"sam": "sam", "clip": "open_clip"}


@pytest.fixture(scope="module")
def adapters() -> dict[str, AuxiliaryAdapter]:
    return {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny")}


@pytest.fixture(scope="module")
def merged(adapters: dict[str, AuxiliaryAdapter]) -> MergedModel:
    """A merged model that was not trained: its parents' weights, and a new head."""
    torch.manual_seed(0)
    model = MergedModel(adapters, base="sam")
    model.start({name: adapter.teacher() for name, adapter in adapters.items()})
    return model.eval()


@pytest.fixture
def folder(merged: MergedModel, tmp_path: Path) -> Path:
    merged.save(tmp_path / "merged", names=NAMES, texts={"README.md": "card"})
    return tmp_path / "merged"


def picture(height: int = 80, width: int = 120) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_untrained_merge_equals_its_base(adapters: dict[str, AuxiliaryAdapter], merged: MergedModel) -> None:
    """Masks and IoU scores are the SAM parent's, bit for bit."""
    parent = adapters["sam"].capability(adapters["sam"].teacher())
    boxes = torch.tensor([[5.0, 5.0, 60.0, 70.0], [30.0, 10.0, 110.0, 75.0]])
    for multimask in (False, True):
        theirs = parent.set_image(picture()).predict(boxes=boxes, multimask=multimask)  # type: ignore[attr-defined]
        ours = merged.sam.set_image(picture()).predict(boxes=boxes, multimask=multimask)
        assert torch.equal(theirs[0], ours[0])
        assert torch.equal(theirs[1], ours[1])


def test_the_text_tower_is_the_parents_own(adapters: dict[str, AuxiliaryAdapter], merged: MergedModel) -> None:
    """Texts embed as in the CLIP parent, and no stage may change that."""
    parent = adapters["clip"].capability(adapters["clip"].teacher())
    texts = ["a photo of a star.", "a red circle"]
    assert torch.equal(parent.encode_text(texts), merged.clip.encode_text(texts))  # type: ignore[attr-defined]
    assert any(name.startswith("heads.clip.text.") for name in merged.fixed)
    assert any(name.startswith("heads.sam.prompt_encoder.") for name in merged.fixed)


def test_a_saved_model_is_rebuilt_without_its_parents(
    merged: MergedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything it answers is the same after `vfmerge.load`, with every parent's file out of reach."""
    monkeypatch.setattr(SAM, "teacher", None)
    monkeypatch.setattr(OpenCLIP, "teacher", None)
    loaded = vfmerge.load(folder)
    boxes = torch.tensor([[5.0, 5.0, 60.0, 70.0]])
    assert torch.equal(loaded.clip.encode_image([picture()]), merged.clip.encode_image([picture()]))
    assert torch.equal(loaded.clip.encode_text(["a star"]), merged.clip.encode_text(["a star"]))
    assert torch.equal(
        loaded.sam.set_image(picture()).predict(boxes=boxes)[0], merged.sam.set_image(picture()).predict(boxes=boxes)[0]
    )
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_folder_holds_no_path_and_no_pickle(folder: Path) -> None:
    """config.json names adapters and shapes; the weights are safetensors; nothing else is there."""
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md", "MANIFEST.json"}
    config = (folder / "config.json").read_text()
    assert json.loads(config)["parents"]["clip"]["adapter"] == "open_clip"
    assert str(Path.home()) not in config
    assert "/tiny/" not in config
    assert len(load_file(folder / "model.safetensors")) > 100


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "MANIFEST.json"])
def test_a_damaged_folder_is_refused(folder: Path, name: str) -> None:
    """One flipped bit in any file is found, and the file named."""
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        vfmerge.load(folder)


def test_an_adapter_that_is_not_installed_is_named(folder: Path, tmp_path: Path) -> None:
    """Nothing that a config says is imported; an unknown name is one line."""
    config = json.loads((folder / "config.json").read_text())
    config["parents"]["sam"]["adapter"] = "os:system"
    weights = load_file(folder / "model.safetensors")

    def write(new: Path) -> None:
        (new / "config.json").write_text(json.dumps(config))
        save_file(weights, new / "model.safetensors")

    commit.commit(tmp_path / "other", write)
    with pytest.raises(InputError, match="os:system") as error:
        vfmerge.load(tmp_path / "other")
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    """No folder, no traceback."""
    with pytest.raises(InputError, match="nowhere"):
        vfmerge.load(tmp_path / "nowhere")


def test_unknown_names_are_attribute_errors(merged: MergedModel) -> None:
    """`model.dino` where there is no such parent is what Python users expect."""
    with pytest.raises(AttributeError, match="dino"):
        merged.dino  # noqa: B018


def test_an_unknown_task_is_one_line(merged: MergedModel) -> None:
    """With the nearest of those that there are."""
    with pytest.raises(InputError, match=r"task: no head is called 'clop'; did you mean 'clip'\?"):
        merged.capability("clop")


def test_a_model_by_itself_gives_features(merged: MergedModel) -> None:
    """What its trunk sees."""
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(merged(images).maps[-1], merged.trunk(images).maps[-1])


def test_compile_compiles_the_trunk_for_all(folder: Path) -> None:
    """In place: every head asks the compiled one, each with the answer of before, and what is saved is the model."""
    ran: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        def run(*given: object) -> object:
            ran.append("graph")
            return graph(*given)

        return run

    model, plain = vfmerge.load(folder), vfmerge.load(folder)
    model.compile(backend=backend, dynamic=False)
    boxes = torch.tensor([[5.0, 5.0, 60.0, 70.0]])
    asks = {
        "features": lambda each: each(torch.ones(1, 3, 96, 96)).maps[-1],
        "clip": lambda each: each.clip.encode_image([picture()]),
        "sam": lambda each: each.sam.set_image(picture()).predict(boxes=boxes)[0],
    }
    for name, ask in asks.items():
        ran.clear()
        with torch.no_grad():
            torch.testing.assert_close(ask(model), ask(plain), atol=1e-4, rtol=0, msg=name)
        assert ran, name
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: {"a": torch.zeros(1)}, r"tensors: \d+ do not fit the model, first: a is none of its own"),
        (lambda own: dict(list(own.items())[1:]), "tensors: 1 do not fit the model, first: .* is missing"),
        (lambda own: {n: t[None] if n == next(iter(own)) else t for n, t in own.items()}, r"is \[1, .*\], not \["),
    ],
)
def test_tensors_of_another_model_are_not_saved(
    merged: MergedModel, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    """Nothing is written that could not be loaded again."""
    with pytest.raises(InputError, match=message) as error:
        merged.save(tmp_path / "out", names=NAMES, tensors=change(merged.state_dict()))
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_names_that_a_model_has_already_are_reserved() -> None:
    """Whatever torch or this package calls an attribute, no recipe may call a parent; other libraries are not asked."""
    script = (
        "from vfmerge.model import MergedModel; from torch import nn; print(*dir(MergedModel), *dir(nn.ModuleDict()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    own = {*done.stdout.split(), "trunk", "heads", "adapters", "base", "fixed"}
    assert "state_dict" in own
    assert {name for name in own if not name.startswith("_")} <= rules.RESERVED


@pytest.mark.parametrize("name", ["trunk", "train", "items"])
def test_a_parent_by_a_reserved_name_is_refused(name: str, small: Path) -> None:
    """In one line, before anything is built."""
    text = small.read_text().replace("  clip:", f"  {name}:").replace("heads.clip", f"heads.{name}")
    path = small.with_name("reserved.yaml")
    path.write_text(text.replace("{clip:", f"{{{name}:"))
    with pytest.raises(InputError, match=f"parents.{name}: every model has a {name} already"):
        recipe.load(str(path))
