"""The timm adapter against `timm` itself: real classes made small, timm's own file format, random weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf
from torch import Tensor, nn
from vfmerge_adapters.timm import Timm, tags
from vfmerge_adapters.timm.shape import architectures

import vfmerge
from vfmerge import engine, options, recipe
from vfmerge.adapter import Batch
from vfmerge.errors import CheckpointError, InputError
from vfmerge.model import MergedModel

NORMALISATION = {"mean": (0.4, 0.45, 0.5), "std": (0.2, 0.25, 0.3)}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}

# An architecture, what makes it small, its own size, and another height and width that it takes.
MODELS: dict[str, tuple[str, dict[str, Any], int, tuple[int, int]]] = {
    "dinov2": ("vit_small_patch14_reg4_dinov2", VIT | {"img_size": 56, "patch_size": 14}, 56, (42, 84)),
    "dinov3": ("vit_small_patch16_dinov3", VIT | {"img_size": 64, "patch_size": 16}, 64, (32, 96)),
    "siglip": ("vit_base_patch16_siglip_224", VIT, 32, (48, 64)),
    "mae": ("vit_base_patch16_224", VIT, 32, (64, 48)),
    "deit": ("deit_tiny_distilled_patch16_224", VIT, 32, (24, 40)),
    "gap": ("vit_base_patch16_siglip_gap_224", VIT, 32, (48, 48)),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "embed_dim": 16, "depths": [1, 1, 2], "num_heads": [1, 2, 2], "window_size": 4},
        64,
        (96, 64),
    ),
    "convnext": ("convnext_tiny", {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]}, 224, (64, 96)),
    "resnet": ("resnet50", {"layers": [1, 1, 1, 1], "channels": [4, 6, 8, 12]}, 224, (96, 64)),
}
PYRAMIDS = ("swin", "convnext", "resnet")


def shake(model: nn.Module) -> nn.Module:
    """Random values where the library starts with zeros, ones or next to nothing, so that every term counts."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 1.5)
        elif (tensor.is_floating_point() and tensor.dim() < 2) or name in ("pos_embed", "cls_token", "reg_token"):
            tensor.add_(0.3 * torch.randn_like(tensor))
    return model.eval()


def write(folder: Path, kind: str) -> Path:
    """A folder as timm writes it for the hub, with a classifier and a normalisation of its own."""
    name, arguments, _, _ = MODELS[kind]
    model = shake(timm.create_model(name, num_classes=5, **arguments))
    save_for_hf(model, str(folder), safe_serialization=True, data_config=NORMALISATION)
    return folder


def own(folder: Path, **arguments: Any) -> nn.Module:
    """The model as timm itself loads it."""
    return timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments).eval()


def own_features(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """timm's pooled output, and its last map, for images that are normalised."""
    last = model.forward_features(images)
    summary = model.forward_head(last, pre_logits=True)
    if last.dim() == 3:  # tokens: prefix, then cells
        grid = model.patch_embed.dynamic_feat_size(images.shape[-2:])
        return summary, last[:, model.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
    return summary, last if last.shape[1] == model.num_features else last.permute(0, 3, 1, 2)


def batch(images: Tensor) -> Batch:
    count = len(images)
    return Batch(images=images, keys=tuple(range(count)), names=("picture",) * count)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(NORMALISATION[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every model in timm's own format; not to be changed."""
    return {kind: write(tmp_path_factory.mktemp("timm") / kind, kind) for kind in MODELS}


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_targets_are_timms_own(folders: dict[str, Path], kind: str) -> None:
    """Summary and cells, of the same file loaded by timm: at its own size, and at another with timm built for that."""
    _, arguments, side, other = MODELS[kind]
    teacher = Timm(checkpoint=str(folders[kind])).teacher()
    rebuilt = {"dynamic_img_size": True} if kind == "swin" else {"img_size": other} if "img_size" in arguments else {}
    for size, timms in (((side, side), own(folders[kind])), (other, own(folders[kind], **rebuilt))):
        images = torch.rand(2, 3, *size)
        expected = own_features(timms, normalised(images))
        for target, wanted in zip(teacher(batch(images)), expected, strict=True):
            torch.testing.assert_close(target, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", MODELS)
def test_features_are_promised_as_they_come(folders: dict[str, Path], kind: str) -> None:
    """Channels, strides and summary, known without weights and without a random number; heads for a plain ViT."""
    adapter = Timm(checkpoint=str(folders[kind]))
    before = torch.get_rng_state()
    promised = adapter.features
    assert torch.equal(torch.get_rng_state(), before)
    side = 2 * MODELS[kind][2]
    with torch.no_grad():
        given = adapter.teacher().trunk(torch.rand(1, 3, side, side))
    assert tuple(each.shape[1] for each in given.maps) == promised.channels
    assert tuple(side // each.shape[-1] for each in given.maps) == promised.strides
    assert given.summary.shape == (1, promised.summary)
    assert promised.heads == (None if kind in PYRAMIDS else 2)
    assert len(promised.strides) == {"swin": 3, "convnext": 4, "resnet": 5}.get(kind, 1)
    assert promised.fixed_size is None


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
@torch.no_grad()
def test_every_level_is_timms_own(folders: dict[str, Path], kind: str) -> None:
    """A pyramid's maps are those of timm's `features_only` model, finest first."""
    images = torch.rand(1, 3, 64, 96)
    given = Timm(checkpoint=str(folders[kind])).teacher().encode(images).maps
    expected = own(folders[kind], features_only=True)(normalised(images))
    for level, wanted in zip(given, expected, strict=True):
        torch.testing.assert_close(level, wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_picture_is_normalised_as_timm_does(folders: dict[str, Path]) -> None:
    """timm's own transform of a picture, then timm's model, against the adapter's way from the same picture."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    model = own(folders["siglip"])
    config = resolve_model_data_config(model) | {"crop_pct": 1.0}
    assert config["mean"] == list(NORMALISATION["mean"])
    images = create_transform(**config)(Image.fromarray(picture)).unsqueeze(0)
    adapter = Timm(checkpoint=str(folders["siglip"]))
    seen = adapter.capability(adapter.teacher())
    torch.testing.assert_close(seen.encode_cells([picture]), own_features(model, images)[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_position_embeddings_fit_another_grid(folders: dict[str, Path]) -> None:
    """A file of 4 x 4 cells fills a network of 6 x 6, as when timm itself adapts it."""
    teacher = Timm(checkpoint=str(folders["mae"]), arguments={"img_size": 48}).teacher()
    images = torch.rand(1, 3, 48, 48)
    expected = own_features(own(folders["mae"], img_size=48), normalised(images))
    torch.testing.assert_close(teacher(batch(images))[1], expected[1], atol=1e-5, rtol=0)
    assert teacher.trunk.model.pos_embed.shape[1] == 37


@pytest.mark.parametrize(
    "name", ["flexivit_small", "vit_base_patch16_radio_v3", "vit_so400m_patch16_radio_v4", "deit3_small_patch16_224"]
)
def test_files_are_converted_as_timm_does(tmp_path: Path, name: str) -> None:
    """Families whose files timm converts in ways of their own end with the same tensors as in timm."""
    small = VIT | {"patch_size": 16}
    tensors = shake(timm.create_model(name, num_classes=0, **small | {"img_size": 64})).state_dict()
    given = _published(name, tensors)
    save_file(given, tmp_path / "weights.safetensors")
    overlay = {"state_dict": dict(given), "num_classes": 0, "custom_load": False}
    timms = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **small | {"img_size": 96}
    )
    adapter = Timm(
        model=name,
        checkpoint=str(tmp_path / "weights.safetensors"),
        arguments=small | {"img_size": 96},
        **NORMALISATION,
    )
    filled = adapter.teacher().trunk.model.state_dict()
    assert all(torch.equal(tensor, filled[key]) for key, tensor in timms.state_dict().items())


def _published(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors by the names that its authors gave them."""
    if "radio" not in name:
        return {key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t for key, t in tensors.items()}
    first = "radio_model.model."
    blocks = {f"{first}{key}": tensor for key, tensor in tensors.items() if key.startswith("blocks.")}
    tokens = torch.cat([tensors["cls_token"], tensors["reg_token"]], dim=1)[0]
    generator = {
        "embedder.weight": tensors["patch_embed.proj.weight"].flatten(1),
        "pos_embed": tensors["pos_embed"],
        "cls_token.token": tokens,
    }
    return blocks | {f"{first}patch_generator.{key}": tensor.contiguous() for key, tensor in generator.items()}


@pytest.mark.parametrize("name", ["tiny_dino", "tiny_mae"])
@torch.no_grad()
def test_what_comes_with_vfmerge_is_timms_too(name: str) -> None:
    """The parents of the shapes world are opened by name, and by timm from their folder."""
    adapter = Timm(model=name)
    assert adapter.licence == "Apache-2.0"
    model = own(adapter.sources[0].parent)
    config = resolve_model_data_config(model)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = torch.rand(1, 3, 64, 64)
    expected = own_features(model, (images - mean) / std)
    for target, wanted in zip(adapter.teacher()(batch(images)), expected, strict=True):
        torch.testing.assert_close(target, wanted, atol=1e-5, rtol=0)
    first = next(iter(Timm(model=name, random=True).teacher().trunk.parameters()))
    assert first.shape == next(model.parameters()).shape
    assert Timm(model=name, random=True).sources == (adapter.sources[0],)


@torch.no_grad()
def test_what_merges_is_what_the_parent_was(folders: dict[str, Path]) -> None:
    """An untrained merged model with the parent as its base sees what the parent sees."""
    adapter = Timm(checkpoint=str(folders["dinov3"]))
    teacher = adapter.teacher()
    merged = MergedModel({"eye": adapter}, base="eye")
    merged.start({"eye": teacher})
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    wanted, given = adapter.capability(teacher), merged.capability("eye")
    assert torch.equal(given.encode_cells([picture]), wanted.encode_cells([picture]))
    assert given.encode_cells([picture]).shape == (1, 32, 4, 4)  # at the 64 pixels that it was made for


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
def test_shape_alone_rebuilds_it(tmp_path: Path, kind: str) -> None:
    """What `portable` says, through JSON, gives the same network and sizes when the parent's files are gone."""
    folder = write(tmp_path / "parent", kind)
    adapter = Timm(checkpoint=str(folder), licence="CC-BY-4.0")
    teacher, head = adapter.teacher(), adapter.own_head()
    portable = json.loads(json.dumps(adapter.portable()))
    shutil.rmtree(folder)
    rebuilt = Timm(**options.check_options(Timm, portable))
    assert rebuilt.sources == ()
    assert rebuilt.portable() == portable
    assert rebuilt.features == adapter.features
    assert rebuilt.own_head().size == head.size
    assert rebuilt.licence == "CC-BY-4.0"
    trunk = rebuilt.trunk().eval()
    trunk.load_state_dict(teacher.trunk.state_dict())
    images = torch.rand(1, 3, 112, 112) if kind == "dinov2" else torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(trunk(images).summary, teacher.trunk(images).summary)


def test_a_network_of_one_size_says_so() -> None:
    """A CaiT takes 64 pixels alone: promised, refused otherwise, and brought to it as a teacher."""
    small = {"img_size": 64, "embed_dim": 16, "depth": 1, "num_heads": 2}
    adapter = Timm(model="cait_xxs24_224", random=True, arguments=small)
    assert adapter.features.fixed_size == 64
    assert adapter.teacher()(batch(torch.rand(2, 3, 48, 48)))[1].shape == (2, 16, 4, 4)
    with pytest.raises(InputError, match="takes 64 alone"):
        adapter.trunk()(torch.rand(1, 3, 96, 96))


def test_a_size_that_would_be_cut_is_refused(folders: dict[str, Path]) -> None:
    """timm itself drops what does not fill a cell, without a word."""
    trunk = Timm(checkpoint=str(folders["dinov2"])).trunk()
    with pytest.raises(InputError, match="no multiple of the trunk's 14 pixels"):
        trunk(torch.rand(1, 3, 64, 64))


def test_without_pooling_there_is_no_summary() -> None:
    """Cells alone are promised, given and learnt."""
    adapter = Timm(model="vit_tiny_patch16_224", random=True, arguments=VIT | {"global_pool": ""})
    assert adapter.features.summary is None
    assert [part.dim() for part in adapter.teacher()(batch(torch.rand(2, 3, 32, 32)))] == [4]


def test_a_tag_says_what_its_weights_expect(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """MAE's colours are ImageNet's, not the architecture's first weights'; a file alone leads to a word about it."""
    path = tmp_path / "weights.safetensors"
    path.touch()
    mae = Timm(model="vit_base_patch16_224.mae", checkpoint=str(path))
    assert mae.portable()["mean"] == [0.485, 0.456, 0.406]
    assert mae.licence == "CC-BY-NC-4.0"
    assert not caplog.records
    plain = Timm(model="vit_base_patch16_224", checkpoint=str(path))
    assert plain.portable()["mean"] == [0.5, 0.5, 0.5]
    assert plain.licence == "unknown"
    assert "bamboo or dino or mae" in caplog.text
    caplog.clear()
    told = Timm(model="vit_base_patch16_224", checkpoint=str(path), **NORMALISATION)
    assert told.portable()["std"] == list(NORMALISATION["std"])
    assert not caplog.records


def test_a_tag_is_fetched_as_safetensors_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub is asked for one file when the teacher is opened, and a repository without it is refused."""
    asked: list[tuple[str, str]] = []

    def hub(repository: str, name: str) -> Path | None:
        asked.append((repository, name))
        return tmp_path / "model.safetensors" if repository.endswith("a1_in1k") else None

    monkeypatch.setattr(tags, "fetch_file", hub)
    small = {"layers": [1, 1, 1, 1], "channels": [4, 6, 8, 12]}
    model = shake(timm.create_model("resnet18", num_classes=3, **small))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    adapter = Timm(model="resnet18", pretrained="a1_in1k", arguments=small)
    assert adapter.sources == ()
    assert adapter.licence == "Apache-2.0"
    assert asked == []
    weight = adapter.teacher().trunk.model.conv1.weight
    assert torch.equal(weight, model.conv1.weight)
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    with pytest.raises(InputError, match="not published as safetensors"):
        Timm(model="resnet18", pretrained="tv_in1k").teacher()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "a model needs weights"),
        ({"model": "resnet18"}, "resnet18 needs weights"),
        ({"random": True}, "model: missing"),
        ({"model": "resnet18", "pretrained": "a1_in1k", "random": True}, "pretrained and random"),
        ({"model": "resnet18.a1_in1k", "pretrained": "a1_in1k"}, "names its tag already"),
        ({"model": "tiny_mae", "pretrained": "mae"}, "of an architecture of timm"),
        ({"model": "vit_smal_patch14_dinov2", "random": True}, "did you mean 'vit_small_patch14_dinov2'"),
        ({"model": "hf-hub:some/where", "random": True}, "no architecture"),
        ({"model": "resnet18", "checkpoint": "nowhere.pth"}, "does not exist"),
        ({"checkpoint": "."}, "config.json: No such file"),
        ({"model": "resnet18", "checkpoint": "."}, "says its own architecture"),
        ({"model": "resnet18", "random": True, "arguments": {"checkpoint_path": "x"}}, "arguments.checkpoint_path"),
        ({"model": "resnet18", "random": True, "arguments": {"in_chans": 4}}, "in_chans: 4 is not 3"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], match: str
) -> None:
    """Weights are never random unasked, and each mistake is one line that names the option."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=match) as caught:
        Timm(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": "resnet18.a1_in2k"}, "did you mean 'a1_in1k'"),
        ({"model": "resnet18", "arguments": {"colour": 3}}, "arguments: timm cannot build resnet18 so"),
        ({"model": "vit_tiny_patch16_224", "arguments": {"img_size": "big"}}, "img_size: 'big'"),
        ({"model": "vit_tiny_patch16_224", "arguments": {"img_size": 8}}, "arguments: timm cannot|gives no maps"),
        ({"model": "cait_xxs24_224", "arguments": {"img_size": [64, 32]}}, "64 x 32 alone"),
    ],
)
def test_what_timm_refuses_is_one_line(options: dict[str, Any], match: str) -> None:
    """What only timm knows is told when the shape is asked for."""
    adapter = Timm(random=True, **options)
    with pytest.raises(InputError, match=match) as caught:
        _ = adapter.features
    assert "\n" not in str(caught.value)


def test_wrong_files_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """Weights of another architecture, damaged ones and a config that is none are one line, never a half-filled net."""
    resnet, vit = folders["resnet"] / "model.safetensors", folders["mae"] / "model.safetensors"
    for kind, file, match in (
        ("convnext", resnet, "timm cannot take these weights"),
        ("resnet", vit, "tensors missing"),
        ("deit", vit, "timm cannot take these weights"),
    ):
        name, arguments, _, _ = MODELS[kind]
        with pytest.raises(CheckpointError, match=match) as caught:
            Timm(model=name, arguments=arguments, checkpoint=str(file), **NORMALISATION).teacher()
        assert "\n" not in str(caught.value)
    folder = tmp_path / "folder"
    shutil.copytree(folders["mae"], folder)
    (folder / "model.safetensors").write_bytes(vit.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged"):
        Timm(checkpoint=str(folder)).teacher()
    config = json.loads((folder / "config.json").read_text())
    for broken in ("{", "[]", json.dumps(config | {"architecture": "local-dir:elsewhere"})):
        (folder / "config.json").write_text(broken)
        with pytest.raises(InputError) as refused:
            Timm(checkpoint=str(folder))
        assert "\n" not in str(refused.value)
    (folder / "config.json").write_text(json.dumps(config | {"model_args": {"checkpoint_path": "elsewhere.pth"}}))
    with pytest.raises(InputError, match=r"model_args\.checkpoint_path"):
        Timm(checkpoint=str(folder))


def test_random_weights_are_the_same_each_time() -> None:
    """A dry run that is resumed meets the same random parent, whatever was drawn before."""
    adapter = Timm(model="vit_tiny_patch16_224", random=True, arguments=VIT)
    first = adapter.teacher().state_dict()
    torch.rand(7)
    second = adapter.teacher().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_names_are_those_that_timm_lists() -> None:
    """They are read from its source, so that a mistyped one is told at once, without what others have added to it."""
    own = {name for name in timm.list_models() if timm.model_entrypoint(name).__module__.startswith("timm.")}
    assert architectures() == own


def test_a_mistake_is_told_without_torch() -> None:
    """Neither torch nor timm is imported to make an adapter, nor to refuse a name."""
    code = """
import sys
from vfmerge.errors import InputError
from vfmerge_adapters.timm import Timm
Timm(model="resnet18", random=True)
try:
    Timm(model="resnet81", random=True)
except InputError:
    assert not {"torch", "timm"} & set(sys.modules)
    print("told")
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "told\n"


_RECIPE = """\
base: {base}
parents:
  eye: {{adapter: timm, options: {{checkpoint: {folder}}}}}
  {other}
data:
  images: {{kind: shapes, layout: mixed, split: train, count: 12, size: 32, masks: false}}
  masks: {{kind: shapes, layout: several, split: train, count: 6, size: 48}}
stages:
  distill:
    steps: 3
    train: {{trunk: 5e-4, {train}}}
    streams:
      - {{data: images, size: [32, 48], batch: 4, tasks: {{{tasks}}}}}
      {more}
"""
_AUXILIARY = {
    "base": "sam",
    "other": "sam: {adapter: sam, options: {variant: tiny, random: true, geometry: {depth: 2, width: 32, heads: 2,"
    " global_blocks: [1], decoder_width: 16, decoder_mlp: 32, decoder_heads: 2}}}",
    "train": "heads.sam: 1e-3, heads.eye: 1e-3",
    "tasks": "eye: 1",
    "more": "- {data: masks, size: 48, batch: 2, masks: 2, fit: pad, tasks: {sam: 10}}",
}
_BASE = {
    "base": "eye",
    "other": "clip: {adapter: open_clip, options: {model: tiny, layers: 1}}",
    "train": "heads.clip: 1e-3",
    "tasks": "eye: 1, clip: 1",
    "more": "",
}


@pytest.mark.parametrize(("role", "kind"), [(_AUXILIARY, "siglip"), (_BASE, "mae"), (_BASE, "convnext")])
def test_it_merges(tmp_path: Path, role: dict[str, str], kind: str) -> None:
    """As auxiliary and as base, plain and convolutional; what is saved needs the parent's files no more."""
    folder = write(tmp_path / "parent", kind)
    text = _RECIPE.format(folder=folder, **role)
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("[32, 48]", "[64, 96]") if kind == "convnext" else text)
    engine.run(recipe.load(str(path)), tmp_path / "run", name="merge")
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    before = vfmerge.load(tmp_path / "run" / "merged").eye.encode_cells([picture], size=96)
    shutil.rmtree(folder)
    after = vfmerge.load(tmp_path / "run" / "merged").eye.encode_cells([picture], size=96)
    assert torch.equal(before, after)
    assert before.shape[1] == MODELS[kind][1].get("embed_dim", 24)
