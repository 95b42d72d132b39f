"""Exports for open_clip: its own factory, tokenizer and zero-shot classifier on the written folder."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from PIL import Image
from vfmerge_adapters.exports import tower
from vfmerge_adapters.merged import Merged
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import export
from vfmerge.adapter import Adapter
from vfmerge.errors import InputError
from vfmerge.model import MergedModel, load

SMALL = {"depth": 2, "width": 32, "heads": 2, "global_blocks": [1], "decoder_width": 16, "decoder_mlp": 32}
TEXT = {"context_length": 16, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}
TIMM = {"timm_pool": "", "timm_proj": "linear"}
SHAPES: dict[str, dict[str, Any]] = {
    "vit": {"vision_cfg": VIT},
    "quick": {"vision_cfg": VIT, "quick_gelu": True},
    "means": {"vision_cfg": VIT | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}},
    "coca": {
        "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2},
        "multimodal_cfg": {"width": 32, "heads": 2, "layers": 1},
        "custom_text": True,
    },
    "resnet": {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}},
    "siglip": {
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"},
        "embed_dim": 96,
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "convnext": {"vision_cfg": TIMM | {"image_size": 64, "timm_model_name": "test_convnext"}},
}
TEXTS = ["a photo of a star.", "two circles"]


def save(folder: Path, adapters: dict[str, Adapter], *, base: str, names: dict[str, str]) -> Path:
    """An untrained merge of random weights, as a folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MergedModel(adapters, base=base).save(folder / "merged", names=names, texts={})
    return folder


def own(folder: Path, shape: dict[str, Any], **options: Any) -> Path:
    """A merge whose base is a CLIP of that shape."""
    config = {"model_cfg": {"embed_dim": 24, "text_cfg": TEXT} | shape}
    return save(folder, {"clip": OpenCLIP(config=config, **options)}, base="clip", names={"clip": "open_clip"})


def on_sam(folder: Path, **options: Any) -> Path:
    """A merge whose CLIP is a new head on a SAM's trunk."""
    sam = SAM(variant="tiny", random=True, geometry=SMALL)
    clip = OpenCLIP(model="tiny", layers=1, **options)
    return save(folder, {"sam": sam, "clip": clip}, base="sam", names={"sam": "sam", "clip": "open_clip"})


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["own", "on SAM"])
@torch.no_grad()
def test_zero_shot_logits(kind: str, tmp_path: Path) -> None:
    """open_clip's own classifier of its own templates gives the merged model's logits, to 1e-3 of 100."""
    folder = own(tmp_path, SHAPES["vit"]) if kind == "own" else on_sam(tmp_path)
    out = tmp_path / "clip"
    export.export(folder, kind="open_clip", out=out)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{out}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{out}")
    names, templates = IMAGENET_CLASSNAMES[:3], OPENAI_IMAGENET_TEMPLATES[:4]
    classifier = open_clip.build_zero_shot_classifier(model.eval(), tokenizer, names, templates)
    images = preprocess(Image.fromarray(picture()))[None]
    theirs = 100 * model.encode_image(images, normalize=True) @ classifier

    clip = load(folder / "merged").clip
    words = clip.encode_text([template(name) for name in names for template in templates])
    classes = torch.nn.functional.normalize(words.unflatten(0, (3, 4)).mean(1), dim=-1)
    ours = 100 * clip.encode_image([picture()]) @ classes.T
    assert (theirs - ours).abs().max() <= 1e-3
    assert ours.std() > 1e-2


@pytest.mark.parametrize("name", SHAPES)
def test_every_family_is_open_clips_own(name: str, tmp_path: Path) -> None:
    """A CLIP that is the base needs no import: open_clip builds it from the config and loads it strictly."""
    made = export.export(own(tmp_path, SHAPES[name]), kind="open_clip", out=tmp_path / "clip")
    assert all(each.small for each in made.differences)
    assert "vfmerge" not in made.usage
    config = json.loads((tmp_path / "clip" / "open_clip_config.json").read_text())
    assert tower.vfmerge_tower.__name__ not in config["model_cfg"]["vision_cfg"].get("timm_model_name", "")


def test_a_published_name_takes_the_file(tmp_path: Path) -> None:
    """A plain CLIP's file has the names that open_clip gives it: its architecture's name and the file will do."""
    export.export(own(tmp_path, SHAPES["vit"]), kind="open_clip", out=tmp_path / "clip")
    config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT}
    (tmp_path / "ViT-mine.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "ViT-mine.json")
    model = open_clip.create_model("ViT-mine", pretrained=str(tmp_path / "clip" / "open_clip_model.safetensors"))
    assert type(model) is open_clip.CLIP
    assert model.logit_scale.exp().item() == pytest.approx(100)


def test_another_size(tmp_path: Path) -> None:
    """A merged model that looks at its pictures at another size than its parent did does so in open_clip too."""
    made = export.export(own(tmp_path, SHAPES["vit"], size=48), kind="open_clip", out=tmp_path / "clip")
    assert all(each.small for each in made.differences)
    assert open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").visual.image_size == (48, 48)


def test_a_size_that_open_clip_cannot_have(tmp_path: Path) -> None:
    """Where its own architecture has one size alone, the tower of ours takes its place."""
    made = export.export(own(tmp_path, SHAPES["resnet"], size=96), kind="open_clip", out=tmp_path / "clip")
    assert "import vfmerge_adapters.exports.tower" in made.usage


def test_what_is_printed_works(tmp_path: Path) -> None:
    """In a fresh process the printed lines load the model, at any size that its trunk takes; without the import not."""
    made = export.export(on_sam(tmp_path), kind="open_clip", out=tmp_path / "clip")
    script = f"""
import open_clip, torch
try:
    open_clip.create_model("local-dir:{tmp_path / "clip"}")
except RuntimeError as error:
    print(str(error)[:27])
{made.usage}
print(model.encode_text(tokenizer({TEXTS!r})).shape, model.eval().encode_image(torch.rand(1, 3, 96, 128)).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "Unknown model (vfmerge_towe\ntorch.Size([2, 128]) torch.Size([1, 128])\n", done.stderr


def test_a_head_of_an_earlier_merge(tmp_path: Path) -> None:
    """A merged model that was merged again is exported like any other."""
    first = on_sam(tmp_path / "first")
    model = str(first / "merged")
    adapters = {"sam": Merged(model=model, task="sam"), "clip": Merged(model=model, task="clip")}
    second = save(tmp_path, adapters, base="sam", names={"sam": "vfmerge", "clip": "vfmerge"})
    made = export.export(second, kind="open_clip", out=tmp_path / "clip")
    assert all(each.small for each in made.differences)
    made = export.export(second, kind="sam", out=tmp_path / "sam.pth")
    assert all(each.small for each in made.differences)


@pytest.mark.parametrize(
    "tag", ["", "vit_b", "eNqrVkrOT0lVslIqLU4tUqoFAC", base64.urlsafe_b64encode(zlib.compress(b"[" * 9999)).decode()]
)
def test_a_damaged_name(tag: str) -> None:
    """A name that no tower has is an InputError, whoever asks timm for it."""
    with pytest.raises(InputError, match="vfmerge_tower: "):
        timm.create_model(f"vfmerge_tower.{tag}")


def test_a_name_names_installed_adapters_alone() -> None:
    """What a name asks for is looked up among installed adapters, and its options are checked."""
    part = {"adapter": "os:system", "options": {}, "licence": "MIT"}
    packed = zlib.compress(json.dumps({"trunk": part, "head": part, "own": True}).encode())
    with pytest.raises(InputError, match="made with adapter 'os:system'"):
        timm.create_model(f"vfmerge_tower.{base64.urlsafe_b64encode(packed).decode()}")
