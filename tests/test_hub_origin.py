"""Where parents in the hub's format come from: folders, the hub's cache, shapes; what is refused, and how."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from vfmerge_adapters.hub import network, origin, repository
from vfmerge_adapters.hub.preprocess import Preprocess
from vfmerge_adapters.transformers_vision import Vision

from vfmerge import weights
from vfmerge.errors import CheckpointError, InputError

CONFIG = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}


def trace(model: Any = None, *, random: bool = False, config: Any = None, preprocessor: Any = None) -> origin.Origin:
    return origin.trace(
        model=None if model is None else str(model), random=random, config=config, preprocessor=preprocessor
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the library wrote."""
    folder = tmp_path_factory.mktemp("dino")
    with network.quiet():
        torch.manual_seed(0)
        transformers.Dinov2Model(transformers.Dinov2Config(**CONFIG)).save_pretrained(folder)
        transformers.BitImageProcessor(image_mean=[0.1, 0.2, 0.3]).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(original, tmp_path / "dino"))


@pytest.fixture
def sharded(original: Path, tmp_path: Path) -> Path:
    """The same in several files."""
    with network.quiet():
        model = transformers.Dinov2Model.from_pretrained(original)
        model.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    return tmp_path / "sharded"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_its_files(original: Path) -> None:
    """Config and preprocessing are read at once, weights when asked for; all three are its sources."""
    parent = trace(original)
    assert [path.name for path in parent.files] == ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert parent.config["hidden_size"] == 16
    assert parent.preprocessor["image_mean"] == [0.1, 0.2, 0.3]
    expected = load_file(original / "model.safetensors")
    found = parent.weights()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_shards_are_one_parent(original: Path, sharded: Path) -> None:
    """Tensors of all shards, which are sources with their index."""
    parent = trace(sharded)
    assert len(parent.shards) > 2
    assert {path.name for path in parent.files} >= {origin.INDEX, "config.json", *(p.name for p in parent.shards)}
    expected = load_file(original / "model.safetensors")
    found = parent.weights()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_missing_shard_is_named(sharded: Path) -> None:
    """When the options are checked."""
    gone = trace(sharded).shards[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=gone.name) as error:
        trace(sharded)
    line(error)


def test_a_tensor_that_no_shard_has_is_named(sharded: Path) -> None:
    """The index promises it."""
    index = json.loads((sharded / origin.INDEX).read_text())
    places = index["weight_map"] | {"left.over": trace(sharded).shards[0].name}
    (sharded / origin.INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointError, match=r"left\.over") as error:
        trace(sharded).weights()
    line(error)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "model.bin", 3])
def test_an_index_names_files_beside_it_alone(sharded: Path, name: Any) -> None:
    """Nothing elsewhere is opened, and no pickle."""
    (sharded / origin.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match=origin.INDEX) as error:
        trace(sharded)
    line(error)


def test_pickles_are_not_read(folder: Path) -> None:
    """A folder with a .bin alone says so, and what to do."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin and no model\.safetensors; save it anew") as error:
        trace(folder)
    line(error)
    assert [path.name for path in trace(folder, random=True).files] == ["config.json", "preprocessor_config.json"]


def test_damaged_weights_are_refused(folder: Path) -> None:
    """In one line that names the file."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is damaged") as error:
        trace(folder).weights()
    line(error)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "has no config.json"),
        (lambda path: path.write_text("{"), "cannot be read as JSON"),
        (lambda path: path.write_text("[1]"), "holds no settings"),
        (lambda path: path.write_text("{}"), "no model_type"),
        (lambda path: change(path, auto_map={"AutoModel": "code.Model"}), "auto_map.*never runs"),
        (lambda path: change(path, quantization_config={"bits": 4}), "quantised"),
    ],
)
def test_a_config_that_will_not_do(folder: Path, spoil: Callable[[Path], Any], message: str) -> None:
    """Is refused before anything is built, and no code of the folder is run."""
    (folder / "code.py").write_text("raise SystemExit")
    spoil(folder / "config.json")
    with pytest.raises(InputError, match=message) as error:
        trace(folder)
    line(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "model: missing"),
        ({"model": "a/b", "config": {"model_type": "vit"}}, "both are given"),
        ({"config": {"model_type": "vit"}}, "add `random: true`"),
        ({"model": "a/b", "preprocessor": {}}, "preprocessor: goes with `config`"),
        ({"model": "nowhere"}, "nowhere does not exist"),
        ({"model": "/no/where/at/all"}, "does not exist"),
        ({"model": __file__}, "is a file; give the folder"),
    ],
)
def test_options_that_name_no_parent(options: dict[str, Any], message: str) -> None:
    """Say which, and what is wanted."""
    with pytest.raises(InputError, match=message) as error:
        trace(**options)
    line(error)


def cached(original: Path, cache: Path, *names: str) -> None:
    """The hub's cache, as it is after `someone/dino` was fetched."""
    repository = cache / "models--someone--dino"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    for name in names:
        shutil.copy(original / name, snapshot / name)
    absent = repository / ".no_exist" / ("a" * 40)
    absent.mkdir(parents=True)
    for name in (origin.PREPROCESSOR, origin.PROCESSOR):
        (absent / name).touch()


def test_an_id_of_the_hub_is_looked_up_when_needed(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the hub's cache first: what was fetched once needs no network. Its files are no sources of a run."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    parent = trace("someone/dino")
    cached(original, tmp_path, "config.json", "model.safetensors")
    assert parent.files == ()
    assert parent.config["hidden_size"] == 16
    assert parent.preprocessor == {}
    assert len(parent.weights()) == len(load_file(original / "model.safetensors"))


def test_a_processor_of_several_parts_is_read_too(folder: Path) -> None:
    """transformers 5 writes what is said of pictures inside `processor_config.json`; it is a source as well."""
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings, "processor_class": "X"}))
    parent = trace(folder)
    assert parent.preprocessor["image_mean"] == [0.1, 0.2, 0.3]
    assert "processor_config.json" in [path.name for path in parent.files]


def test_what_the_hub_does_not_give_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"model\.safetensors of someone/dino@v2 cannot be fetched.*local folder"
    ) as error:
        trace("someone/dino@v2").weights()
    line(error)


def test_making_adapters_imports_no_library(original: Path) -> None:
    """`vfmerge ls` and a mistyped recipe answer at once."""
    code = (
        "import sys; from vfmerge_adapters.transformers_vision import Vision;"
        "from vfmerge_adapters.transformers_clip import CLIP;"
        f"Vision(model={str(original)!r}); CLIP(random=True, config={{'model_type': 'clip'}});"
        "print({'torch', 'transformers', 'open_clip', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_config_chooses_no_code_and_no_number_types() -> None:
    """Attention kernels, number types and what is random in training are ours to say."""
    content = CONFIG | {"model_type": "dinov2", "dtype": "float16", "attn_implementation": "someone/kernels"}
    content |= {"return_dict": False, "hidden_dropout_prob": 0.5, "drop_path_rate": 0.5}
    settled = network.configure(transformers.Dinov2Model, content, source="config")
    model = network.build(transformers.Dinov2Model, settled, source="config")
    assert settled._attn_implementation != "someone/kernels"
    assert settled.return_dict
    assert (settled.hidden_dropout_prob, settled.drop_path_rate) == (0, 0)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("change", [{"hidden_size": "wide"}, {"num_attention_heads": 0}, {"patch_size": 0}])
def test_a_shape_that_cannot_be_built_is_one_line(change: dict[str, Any]) -> None:
    """It names where it is from."""

    def build() -> None:
        settled = network.configure(transformers.ViTModel, CONFIG | change, source="here")
        network.build(transformers.ViTModel, settled, source="here")(torch.zeros(1, 3, 28, 28))

    with pytest.raises(InputError, match="here: transformers cannot build this shape") as error:
        build()
    line(error)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("layernorm.weight"), "1 tensors missing, first: layernorm.weight"),
        (lambda t: t.update(stranger=torch.zeros(1)), "1 unknown, first: stranger"),
        (lambda t: t.update({"layernorm.bias": torch.zeros(3)}), r"of another shape, first: layernorm.bias \[3\]"),
        (lambda t: t.update({"layernorm.bias": torch.zeros(16, dtype=torch.int8)}), "no plain float"),
    ],
)
def test_a_network_is_filled_whole_or_not_at_all(
    folder: Path, spoil: Callable[[dict[str, Any]], Any], message: str
) -> None:
    """The message names the first tensor that does not fit; the global generator is left alone."""
    tensors = load_file(folder / "model.safetensors")
    spoil(tensors)
    save_file(tensors, folder / "model.safetensors")
    settled = network.configure(transformers.Dinov2Model, trace(folder).config, source="here")
    model = network.build(transformers.Dinov2Model, settled, source="here")
    before, drawn = weights.fingerprint(model), torch.get_rng_state()
    with pytest.raises(CheckpointError, match=message) as error:
        network.fill(model, trace(folder).weights(), source="here")
    line(error)
    assert weights.fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), drawn)


def test_half_precision_is_read_as_float(folder: Path) -> None:
    """The numbers are the file's."""
    halves = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors")
    settled = network.configure(transformers.Dinov2Model, trace(folder).config, source="here")
    model = network.build(transformers.Dinov2Model, settled, source="here")
    network.fill(model, trace(folder).weights(), source="here")
    assert torch.equal(model.layernorm.weight, halves["layernorm.weight"].float())
    assert torch.equal(model.embeddings.cls_token, halves["embeddings.cls_token"].float())


def test_the_library_is_quiet_and_then_as_it_was(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No report, bar or warning reaches the screen; its settings come back."""
    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    settled = network.configure(transformers.Dinov2Model, trace(folder).config, source="here")
    network.fill(network.build(transformers.Dinov2Model, settled, source="here"), trace(folder).weights(), source="x")
    assert capfd.readouterr() == ("", "")
    assert (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()) == before
    assert logging.getLogger("transformers").level == before[0]


@pytest.mark.parametrize(("height", "width"), [(60, 91), (33, 32), (20, 64), (301, 300)])
@pytest.mark.parametrize(
    ("processor", "settings"),
    [
        (transformers.CLIPImageProcessorPil, {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
        (transformers.CLIPImageProcessorPil, {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}}),
        (transformers.CLIPImageProcessorPil, {"size": {"shortest_edge": 30}, "crop_size": {"height": 33, "width": 33}}),
        (transformers.SiglipImageProcessorPil, {"size": {"height": 32, "width": 32}, "resample": 2}),
    ],
)
def test_pixels_are_the_librarys(processor: Any, settings: dict[str, Any], height: int, width: int) -> None:
    """Those of its image processors of PIL, after our normalisation, from what they write as a file."""
    made = processor(**settings)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = made(picture, return_tensors="pt")["pixel_values"]
    own = Preprocess.parse(made.to_dict(), default={}, source="here")
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (own.mean, own.std))
    assert torch.allclose((own.square([picture]) - mean) / std, expected, atol=1e-6)
    assert own.square([picture], size=48).shape == (1, 3, 48, 48)


def test_older_files_of_preprocessing_are_understood() -> None:
    """Single numbers for sizes; rescaling and normalisation that are switched off, or other than usual."""
    colours = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    old = Preprocess.parse({"size": 24, "crop_size": 20, "do_center_crop": True} | colours, default={}, source="here")
    assert (old.size.shortest_edge, old.side) == (24, 20)
    assert Preprocess.parse({"size": 24} | colours, default={}, source="here").size.height == 24
    plain = Preprocess.parse({"do_rescale": False, "size": 24} | colours, default={}, source="here")
    assert plain.mean[0] == pytest.approx(0.5 / 255)
    bare = Preprocess.parse({"do_normalize": False, "size": 24} | colours, default={}, source="here")
    assert (bare.mean, bare.std) == ((0, 0, 0), (1, 1, 1))
    with pytest.raises(InputError, match=r"here: preprocessing: image_std\.0") as error:
        Preprocess.parse({"size": 24, "image_mean": [0, 0, 0], "image_std": [0, 1, 1]}, default={}, source="here")
    line(error)


@pytest.mark.parametrize(
    ("card", "told"),
    [
        (None, "unknown"),
        ("# no front matter\nlicense: mit\n", "unknown"),
        ("---\nlicense: apache-2.0\n---\n", "Apache-2.0"),
        ("---\r\nlicense: apple-amlr\r\nlicense_name: apple-ascl\r\n---\r\n# DFN", "apple-amlr"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\nlicense: other\n---\n", "unknown"),
        ("---\nlicense: [mit, cc-by-nc-4.0]\n---\n", "CC-BY-NC-4.0 AND MIT"),
        ("---\nlicense: 4\n---\n", "unknown"),
        ("---\nlicense: [\n---\n", "unknown"),
        ("---\n- a list\n---\n", "unknown"),
        ("---\nreleased: 2024-99-99\n---\n", "unknown"),
    ],
)
def test_the_licence_is_that_of_its_card(folder: Path, card: str | None, told: str) -> None:
    """As its authors state it there, and unknown where they do not; of random weights there is none to be had."""
    if card is not None:
        (folder / "README.md").write_bytes(card.encode())
    assert trace(folder).licence == told
    assert trace(folder, random=True).licence == "unknown"


def test_adapters_take_the_word_of_the_card(folder: Path) -> None:
    """Unless the recipe says another; it goes along into the merged model."""
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert Vision(model=str(folder)).licence == Vision(model=str(folder)).portable()["licence"] == "CC-BY-NC-4.0"
    assert Vision(model=str(folder), licence="MIT").licence == "MIT"


def test_a_card_that_cannot_be_fetched_states_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights may lie in the cache while it does not, and there is no network."""

    def refuse(repository: str, name: str) -> Path:
        raise InputError(f"{name} cannot be fetched")

    monkeypatch.setattr(repository, "fetch", refuse)
    assert trace("someone/model").licence == "unknown"
