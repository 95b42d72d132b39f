"""Image encoders of `transformers` against the library itself: real classes, files that it wrote, random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from torch import Tensor, nn
from vfmerge_adapters.hub import network
from vfmerge_adapters.transformers_vision import Vision

from vfmerge import engine, model, options, recipe
from vfmerge.adapter import Batch, FeatureSpec
from vfmerge.errors import CheckpointError, InputError

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
WIDE = VIT | {"intermediate_size": 48}
PYRAMID = {"hidden_sizes": [6, 8, 10, 12], "depths": [1, 1, 1, 1], "image_size": 64}
TEXT = {"hidden_size": 24, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
TOWERS = {"vision_config": WIDE, "text_config": TEXT}
MAE = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "mask_ratio": 0.0}

CONFIGS: dict[str, dict[str, Any]] = {
    "dinov2": VIT,
    "dinov2_with_registers": VIT | {"num_register_tokens": 3},
    "dinov3_vit": WIDE | {"num_register_tokens": 2},
    "dinov3_convnext": PYRAMID,
    "vit_mae": WIDE | MAE | {"decoder_intermediate_size": 16},
    "vit": WIDE,
    "clip_vision_model": WIDE,
    "siglip_vision_model": WIDE,
}
KINDS = {"clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel"}  # AutoModel knows the rest
MEAN, STD = [0.3, 0.4, 0.5], [0.2, 0.25, 0.3]


def shake(net: nn.Module) -> nn.Module:
    """Random values where the library starts with zeros or ones, so that no term is trivially equal."""
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return net.eval()


def write(kind: type, config: Any, folder: Path) -> Path:
    """A model of the library with random weights, as it saves it, and its preprocessing."""
    with network.quiet():
        torch.manual_seed(0)
        shake(kind(config)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each type."""
    made = {}
    for name, content in CONFIGS.items():
        config = transformers.AutoConfig.for_model(name, **content)
        kind = (
            getattr(transformers, KINDS[name]) if name in KINDS else transformers.AutoModel._model_mapping[type(config)]
        )
        made[name] = write(kind, config, tmp_path_factory.mktemp(name))
    return made


def answer(folder: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the library itself says of normalised images: summary [B, D] and cells [B, n, C]."""
    name = json.loads((folder / "config.json").read_text())["model_type"]
    with network.quiet(), torch.no_grad():
        kind = getattr(transformers, KINDS[name]) if name in KINDS else transformers.AutoModel
        net = kind.from_pretrained(folder)
        if name.startswith("dino"):
            found = net(images)
            return found.pooler_output, found.last_hidden_state[:, 1 + CONFIGS[name].get("num_register_tokens", 0) :]
        if name == "vit_mae":
            cells = (images.shape[-2] // 8) * (images.shape[-1] // 8)
            noise = torch.arange(cells).expand(len(images), -1)
            tokens = net(images, noise=noise, interpolate_pos_encoding=True).last_hidden_state
            return tokens[:, 0], tokens[:, 1:]
        found = net(images, interpolate_pos_encoding=True)
        if name == "siglip_vision_model":
            return found.pooler_output, found.last_hidden_state
        if name == "clip_vision_model":
            return found.pooler_output, net.post_layernorm(found.last_hidden_state[:, 1:])
        return found.last_hidden_state[:, 0], found.last_hidden_state[:, 1:]


def look(height: int, width: int) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, height, width)


def batch(images: Tensor) -> Batch:
    return Batch(images=images, keys=(0,) * len(images), names=("",) * len(images))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 32), (96, 64)])
def test_teacher_equals_the_library(folders: dict[str, Path], name: str, height: int, width: int) -> None:
    """Summary and cells, at its own size, another one and an oblong one, of images that were normalised as it says."""
    images = look(height, width)
    normal = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    summary, cells = Vision(model=str(folders[name])).teacher()(batch(images))
    expected = answer(folders[name], normal)
    assert (summary - expected[0]).abs().max() < 1e-5
    assert (cells.flatten(2).transpose(1, 2) - expected[1]).abs().max() < 1e-5
    assert summary.std() > 0.05


@pytest.mark.parametrize("name", CONFIGS)
def test_the_trunk_keeps_its_promise(folders: dict[str, Path], name: str) -> None:
    """Channels, strides and summary are what `features` says, before and after the weights; no two names differ."""
    parent = Vision(model=str(folders[name]))
    seen, spec = parent.teacher().encode(look(64, 96)), parent.features
    assert tuple(each.shape[1] for each in seen.maps) == spec.channels
    assert [(64 // each.shape[2], 96 // each.shape[3]) for each in seen.maps] == [(each, each) for each in spec.strides]
    assert seen.summary is not None
    assert seen.summary.shape[1] == spec.summary
    assert parent.trunk().state_dict().keys() == parent.teacher().trunk.state_dict().keys()
    assert spec.heads == (None if name == "dinov3_convnext" else 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_alone_are_portable(folders: dict[str, Path], name: str) -> None:
    """Options that name no file make the same shapes, on the meta device too, with the same normalisation."""
    parent = Vision(model=str(folders[name]), size=64)
    plain = json.loads(json.dumps(parent.portable()))
    assert str(folders[name].parent) not in json.dumps(plain)
    again = Vision(**options.check_options(Vision, plain))
    assert again.features == parent.features
    assert again.native_size == parent.native_size
    assert again.sources == ()
    with torch.device("meta"):
        trunk = again.trunk()
    trunk.to_empty(device="cpu").load_state_dict(parent.teacher().trunk.state_dict())
    again_trunk = again.trunk()
    again_trunk.load_state_dict(parent.teacher().trunk.state_dict())
    images = look(64, 64)
    with torch.no_grad():
        assert torch.equal(again_trunk.eval()(images).maps[-1], parent.teacher().encode(images).maps[-1])


def test_stages_of_a_pyramid_are_maps(folders: dict[str, Path]) -> None:
    """Those that the library's own backbone gives, finest first."""
    with network.quiet():
        backbone = transformers.DINOv3ConvNextBackbone.from_pretrained(
            folders["dinov3_convnext"], out_features=["stage1", "stage2", "stage3"]
        )
    parent = Vision(model=str(folders["dinov3_convnext"]))
    images = look(64, 64)
    normal = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        expected = backbone(normal).feature_maps
        found = parent.teacher().encode(images).maps[:-1]
    assert len(found) == 3
    assert all((one - other).abs().max() < 1e-5 for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "kind", "config"),
    [
        ("vit_mae", transformers.ViTMAEForPreTraining, transformers.ViTMAEConfig(**CONFIGS["vit_mae"])),
        ("vit", transformers.ViTForImageClassification, transformers.ViTConfig(**WIDE)),
        ("dinov2", transformers.Dinov2ForImageClassification, transformers.Dinov2Config(**VIT)),
        ("clip", transformers.CLIPModel, transformers.CLIPConfig(projection_dim=12, **TOWERS)),
        ("siglip", transformers.SiglipModel, transformers.SiglipConfig(**TOWERS)),
    ],
)
def test_the_encoder_of_a_larger_model_is_taken(name: str, kind: type, config: Any, tmp_path: Path) -> None:
    """Of one with a decoder, a classifier or a text tower: its image tower's weights, all of them."""
    parent = Vision(model=str(write(kind, config, tmp_path)))
    with network.quiet():
        whole = kind.from_pretrained(tmp_path)
    inner = {"clip": "vision_model", "siglip": "vision_model", "vit_mae": "vit"}.get(name, name)
    expected = getattr(whole, inner).state_dict()
    found = parent.teacher().trunk.model.state_dict()
    assert found
    assert all(torch.equal(tensor, expected[each]) for each, tensor in found.items())


def test_masking_is_off(folders: dict[str, Path], tmp_path: Path) -> None:
    """An MAE whose config masks three cells of four sees all of them, in their places, each time the same."""
    folder = Path(shutil.copytree(folders["vit_mae"], tmp_path / "mae"))
    config = json.loads((folder / "config.json").read_text()) | {"mask_ratio": 0.75}
    (folder / "config.json").write_text(json.dumps(config))
    teacher, plain = Vision(model=str(folder)).teacher(), Vision(model=str(folders["vit_mae"])).teacher()
    images = look(32, 32)
    assert teacher(batch(images))[1].shape == (2, 24, 4, 4)
    assert torch.equal(teacher(batch(images))[1], plain(batch(images))[1])


def test_a_parent_in_training_draws_nothing(folders: dict[str, Path]) -> None:
    """Not even DINOv3, whose own training shakes its positions: a recipe's seed fixes all that is random."""
    for name in ("dinov3_vit", "dinov2"):
        trunk = Vision(model=str(folders[name])).trunk().train()
        drawn = torch.get_rng_state()
        images = look(32, 32)
        assert torch.equal(trunk(images).maps[0], trunk(images).maps[0])
        torch.set_rng_state(drawn)


def test_a_parent_may_teach_at_its_own_size(folders: dict[str, Path]) -> None:
    """`size`: whatever the stream's is."""
    parent = Vision(model=str(folders["dinov2"]), size=48)
    assert parent.teacher()(batch(look(64, 64)))[1].shape == (2, 24, 6, 6)


def test_sides_must_be_filled_with_cells(folders: dict[str, Path]) -> None:
    """Else the edge would not be seen."""
    with pytest.raises(InputError, match="size: 36 x 32 is no multiple of the trunk's 8"):
        Vision(model=str(folders["vit"])).trunk()(look(36, 32))


def test_without_a_file_of_preprocessing(tmp_path: Path) -> None:
    """Normalisation is that of the family's published weights."""
    parent = Vision(random=True, config={"model_type": "dinov2"} | VIT)
    assert parent.teacher().trunk.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    siglip = Vision(random=True, config={"model_type": "siglip", "vision_config": WIDE})
    assert siglip.teacher().trunk.std.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_nothing_is_said(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """The library's bars, reports and advice stay off the screen, from the options to the first answer."""
    for folder in folders.values():
        Vision(model=str(folder)).teacher()(batch(look(64, 64)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "dinov9"}, "'dinov9'; did you mean 'dinov"),
        ({"model_type": "dinov2"} | VIT | {"patch_size": [8, 16]}, "patch_size: .* is no square"),
        ({"model_type": "vit"} | WIDE | {"hidden_act": "sigh"}, "transformers cannot build this shape"),
        ({"model_type": "vit", "auto_map": {}}, "auto_map"),
    ],
)
def test_a_parent_that_cannot_be_is_one_line(content: dict[str, Any], message: str) -> None:
    """It names the value and the remedy."""
    with pytest.raises(InputError, match=message) as error:
        Vision(random=True, config=content).teacher()
    assert "\n" not in str(error.value)


def test_weights_of_another_shape_are_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    """And so are those of another family."""
    folder = Path(shutil.copytree(folders["vit"], tmp_path / "vit"))
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="of another shape") as error:
        Vision(model=str(folder)).teacher()
    assert "\n" not in str(error.value)
    shutil.copy(folders["dinov2"] / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match="missing") as error:
        Vision(model=str(folder)).teacher()
    assert "\n" not in str(error.value)


def merge(plan: dict[str, Any], out: Path) -> None:
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(plan))
    engine.run(recipe.load(str(path), []), out, name=out.name)


def plan(base: str, folder: Path, **distill: Any) -> dict[str, Any]:
    """A few steps of a tiny SAM with a parent of this library, one of them the base."""
    streams = [
        {"data": "images", "size": 64, "batch": 4, "tasks": {"eye": 1}},
        {"data": "masks", "size": 64, "batch": 2, "masks": 2, "fit": "pad", "tasks": {"sam": 1}},
    ]
    return {
        "base": base,
        "parents": {
            "sam": {"adapter": "sam", "options": {"variant": "tiny"}},
            "eye": {"adapter": "transformers_vision", "options": {"model": str(folder), "distill": distill}},
        },
        "data": {
            "images": {"kind": "shapes", "layout": "mixed", "count": 16, "masks": False},
            "masks": {"kind": "shapes", "layout": "several", "count": 16},
        },
        "stages": {
            "distill": {
                "steps": 2,
                "train": {"trunk": 1e-4, "heads.sam": 1e-4, "heads.eye": 1e-3}
                if base == "sam"
                else {"heads.sam": 1e-3},
                "streams": streams if base == "sam" else streams[1:],
            }
        },
    }


@pytest.mark.parametrize("base", ["sam", "eye"])
@pytest.mark.parametrize("name", ["dinov2", "dinov3_convnext", "siglip_vision_model"])
def test_a_merge_needs_no_parents(folders: dict[str, Path], tmp_path: Path, name: str, base: str) -> None:
    """As auxiliary of a tiny SAM or as its base; the merged model loads without their files and sees features."""
    folder = Path(shutil.copytree(folders[name], tmp_path / "parent"))
    merge(plan(base, folder, standardise="phi_s", pictures=16), tmp_path / "run")
    before = Vision(model=str(folder)).teacher()
    shutil.rmtree(folder)
    merged = model.load(tmp_path / "run" / "merged")
    picture = (255 * look(80, 70)[0]).permute(1, 2, 0).byte().numpy()
    cells = merged.eye.encode_cells([picture], size=64)
    assert cells.shape[1] == before(batch(look(64, 64)))[1].shape[1]
    if base == "eye":  # its trunk was frozen: it is what it was
        parent = Vision(**merged.adapters["eye"].portable()).capability(before)
        assert torch.allclose(cells, parent.encode_cells([picture], size=64))
    assert merged.sam.set_image(picture).predict(boxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]))[0].isfinite().all()


def test_an_untrained_base_equals_its_parent(folders: dict[str, Path]) -> None:
    """On its own trunk its own head answers what the teacher says."""
    parent = Vision(model=str(folders["dinov3_vit"]))
    teacher = parent.teacher()
    merged = model.MergedModel({"eye": parent}, base="eye")
    merged.start({"eye": teacher})
    asked = batch(look(32, 32))
    parts = merged.network("eye").eval()(asked).parts
    assert torch.equal(parts["summary"], teacher(asked)[0])
    assert torch.equal(parts["cells"], teacher(asked)[1])


def test_a_head_learns_a_pyramid_on_a_vit(folders: dict[str, Path]) -> None:
    """The loss falls in a few steps, and no gradient reaches the parent."""
    parent = Vision(model=str(folders["dinov3_convnext"]))
    teacher, head = parent.teacher().requires_grad_(False), parent.head(FeatureSpec(channels=(24,), strides=(8,)))
    trunk = Vision(model=str(folders["vit"])).trunk().train()
    optimiser = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=3e-3)
    asked = batch(look(64, 64))
    losses: list[float] = []
    for _ in range(8):
        terms: Callable[..., Any] = parent.loss
        loss = sum(term.mean() for term in terms(head(trunk(asked.images), asked), teacher(asked), asked).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())
