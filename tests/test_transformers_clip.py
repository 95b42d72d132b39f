"""CLIP and SigLIP of `transformers` against the library itself: real classes, files that it wrote, random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import tokenizers
import torch
import torch.nn.functional as F
import transformers
import yaml
from torch import Tensor, nn
from vfmerge_adapters.hub import network
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.transformers_clip import CLIP

from vfmerge import engine, model, options, recipe
from vfmerge.adapter import Batch
from vfmerge.capability import ImageText
from vfmerge.errors import CheckpointError, InputError
from vfmerge.model import Network

VISION = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
VISION |= {"intermediate_size": 96}
TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {
        "vision_config": VISION,
        "text_config": TEXT | {"max_position_embeddings": 12},
        "projection_dim": 20,
    },
    "siglip": {
        "vision_config": VISION,
        "text_config": TEXT | {"max_position_embeddings": 9, "vocab_size": 40, "projection_size": 24},
    },
}
TEXTS = ["a red circle", "two shapes, one on top of the other, seen from far away in the fog", "dog", ""]
MEAN, STD = [0.3, 0.4, 0.5], [0.2, 0.25, 0.3]


def words() -> tokenizers.Tokenizer:
    """A tokenizer of a few words, as a SigLIP's folder has one."""
    known = ["<unk>", "</s>", "a", "red", "circle", "two", "shapes", "one", "on", "top", "of", "the", "dog", "<pad>"]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: n for n, word in enumerate(known)}, "<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def write(name: str, folder: Path) -> Path:
    """A model with random weights, preprocessing and tokenizer, as the library saves them."""
    config = transformers.AutoConfig.for_model(name, **CONFIGS[name])
    with network.quiet():
        torch.manual_seed(0)
        made = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for tensor in made.parameters():
                tensor.add_(0.1 * torch.randn_like(tensor))
        made.save_pretrained(folder)
        if name == "clip":
            kinds: Any = transformers.CLIPImageProcessorPil
            sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
        else:
            kinds, sizes = transformers.SiglipImageProcessorPil, {"size": {"height": 32, "width": 32}}
            fast = transformers.PreTrainedTokenizerFast(
                tokenizer_object=words(), pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
            )
            fast.save_pretrained(folder)
        kinds(image_mean=MEAN, image_std=STD, **sizes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(name, tmp_path_factory.mktemp(name)) for name in CONFIGS}


@pytest.fixture(scope="module")
def originals(folders: dict[str, Path]) -> dict[str, Any]:
    """The library's own models of these folders."""
    with network.quiet():
        return {name: transformers.AutoModel.from_pretrained(folder).eval() for name, folder in folders.items()}


def pictures() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (*frame, 3), dtype=np.uint8) for frame in ((50, 71), (32, 32), (90, 40))]


def look(height: int, width: int) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, height, width)


def normal(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def batch(images: Tensor) -> Batch:
    return Batch(images=images, keys=(0,) * len(images), names=("",) * len(images))


def parent(folder: Path) -> tuple[CLIP, Network, ImageText]:
    adapter = CLIP(model=str(folder))
    teacher = adapter.teacher()
    return adapter, teacher, adapter.capability(teacher)


@pytest.mark.parametrize("name", CONFIGS)
def test_teacher_equals_the_library(folders: dict[str, Path], originals: dict[str, Any], name: str) -> None:
    """Its embeddings of images at its own size; those of others are brought to that."""
    teacher = CLIP(model=str(folders[name])).teacher()
    images = look(32, 32)
    with torch.no_grad():
        expected = originals[name].get_image_features(normal(images)).pooler_output
        assert (teacher(batch(images)) - expected).abs().max() < 1e-5
        larger = look(64, 64)
        own = F.interpolate(larger, size=(32, 32), mode="bicubic", antialias=True).clamp(0, 1)
        expected = originals[name].get_image_features(normal(own)).pooler_output
        assert (teacher(batch(larger)) - expected).abs().max() < 1e-5
    assert expected.std() > 0.05


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 48), (32, 64)])
def test_trunk_and_own_head_equal_the_library(
    folders: dict[str, Path], originals: dict[str, Any], name: str, height: int, width: int
) -> None:
    """At any size, where the library interpolates its positions: so a base looks at the sizes of its streams."""
    adapter, teacher, _ = parent(folders[name])
    merged = model.MergedModel({"clip": adapter}, base="clip")
    merged.start({"clip": teacher})
    images = look(height, width)
    with torch.no_grad():
        expected = originals[name].get_image_features(normal(images), interpolate_pos_encoding=True).pooler_output
        found = merged.network("clip").eval()(batch(images))
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_equal_the_librarys(folders: dict[str, Path], originals: dict[str, Any], name: str) -> None:
    """From a file's pixels on, through its own image processor (of PIL)."""
    kind: Any = transformers.CLIPImageProcessorPil if name == "clip" else transformers.SiglipImageProcessorPil
    pixels = kind.from_pretrained(folders[name])(pictures(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = F.normalize(originals[name].get_image_features(pixels).pooler_output, dim=-1)
    found = parent(folders[name])[2].encode_image(pictures())
    assert (found - expected).abs().max() < 1e-5


def test_texts_of_a_clip_equal_the_librarys(folders: dict[str, Path], originals: dict[str, Any]) -> None:
    """With OpenAI's vocabulary, which needs no file; long texts lose their end, and batches' order does not count."""
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=12)(TEXTS)
    with torch.no_grad():
        expected = F.normalize(originals["clip"].get_text_features(tokens).pooler_output, dim=-1)
    found = parent(folders["clip"])[2].encode_text(TEXTS)
    assert (found - expected).abs().max() < 1e-5


def test_texts_of_a_siglip_equal_the_librarys(folders: dict[str, Path], originals: dict[str, Any]) -> None:
    """With the tokenizer beside it, in lower case and padded to the full length as SigLIP was trained."""
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(folders["siglip"])
    tokens = fast(TEXTS, padding="max_length", truncation=True, max_length=9, return_tensors="pt")["input_ids"]
    assert tokens.shape == (4, 9)
    assert set(tokens[2].tolist()) == {12, 1, 13}  # dog, its end, padding
    with torch.no_grad():
        expected = F.normalize(originals["siglip"].get_text_features(tokens).pooler_output, dim=-1)
    use = parent(folders["siglip"])[2]
    assert (use.encode_text(TEXTS) - expected).abs().max() < 1e-5
    assert torch.equal(use.encode_text(["A Red CIRCLE"]), use.encode_text(["a red circle"]))


def as_open_clip(tensors: dict[str, Tensor], text: str = "") -> dict[str, Tensor]:
    """A CLIP's tensors of this library under open_clip's names."""
    named: dict[str, Tensor] = {}
    blocks = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
    blocks |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for side, tower in (("vision_model", "visual."), ("text_model", text)):
        for layer in range({"vision_model": 3, "text_model": 2}[side]):
            old, new = f"{side}.encoder.layers.{layer}.", f"{tower}transformer.resblocks.{layer}."
            for kind in ("weight", "bias"):
                qkv = [tensors[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                named[f"{new}attn.in_proj_{kind}"] = torch.cat(qkv)
                named |= {f"{new}{their}.{kind}": tensors[f"{old}{our}.{kind}"] for our, their in blocks.items()}
    plain = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
    }
    for kind in ("weight", "bias"):
        plain |= {
            f"vision_model.pre_layrnorm.{kind}": f"visual.ln_pre.{kind}",
            f"vision_model.post_layernorm.{kind}": f"visual.ln_post.{kind}",
            f"text_model.final_layer_norm.{kind}": f"ln_final.{kind}",
        }
    named |= {their: tensors[our] for our, their in plain.items()}
    return named | {
        "visual.proj": tensors["visual_projection.weight"].T,
        "text_projection": tensors["text_projection.weight"].T,
    }


def test_both_adapters_of_clip_agree(folders: dict[str, Path], originals: dict[str, Any], tmp_path: Path) -> None:
    """The same weights under open_clip's names: the same embeddings of pictures, texts and cells, the same features."""
    tensors = as_open_clip(originals["clip"].state_dict())
    torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "clip.pt")
    shape = {
        "embed_dim": 20,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 24, "head_width": 12, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    other = OpenCLIP(
        config={"model_cfg": shape, "preprocess_cfg": {"mean": MEAN, "std": STD}}, checkpoint=str(tmp_path / "clip.pt")
    )
    _, teacher, use = parent(folders["clip"])
    others = other.teacher()
    theirs = other.capability(others)
    square = [pictures()[1]]
    images = look(32, 32)
    assert (teacher(batch(images)) - others(batch(images))).abs().max() < 1e-5
    assert (use.encode_image(square) - theirs.encode_image(square)).abs().max() < 1e-5
    assert (use.encode_text(TEXTS) - theirs.encode_text(TEXTS)).abs().max() < 1e-5
    assert (use.encode_cells(square) - theirs.encode_cells(square)).abs().max() < 1e-5
    with torch.no_grad():
        ours, seen = use.features(images), theirs.features(images)
    assert (ours.maps[0] - seen.maps[0]).abs().max() < 1e-5
    assert ours.summary is not None
    assert (ours.summary - seen.summary).abs().max() < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_cells_are_those_of_a_picture_of_one_cell(folders: dict[str, Path], name: str) -> None:
    """Where the whole tower but its end sees the picture, each cell's embedding is that of itself alone."""
    _, teacher, use = parent(folders[name])
    cells = use.encode_cells(pictures(), size=64)
    assert cells.shape == (3, 20 if name == "clip" else 24, 8, 8)
    assert torch.allclose(cells.norm(dim=1), torch.ones(3, 8, 8), atol=1e-5)
    if name == "siglip":
        seen = teacher.encode(look(32, 32))
        one = teacher.head.projection.pool(seen.maps[-1][:, :, 1, 2].unsqueeze(1))
        with torch.no_grad():
            assert (teacher.head.cells(teacher.trunk, look(32, 32))[:, :, 1, 2] - one).abs().max() < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_alone_are_portable(folders: dict[str, Path], name: str) -> None:
    """Options that name no file make the same shapes, on the meta device too; weights of both fit."""
    adapter, teacher, _ = parent(folders[name])
    plain = json.loads(json.dumps(adapter.portable()))
    assert str(folders[name].parent) not in json.dumps(plain)
    again = CLIP(**options.check_options(CLIP, plain))
    assert again.features == adapter.features
    assert again.trunk().state_dict().keys() == teacher.trunk.state_dict().keys()
    with torch.device("meta"):
        heads: list[nn.Module] = [again.trunk(), again.own_head(), again.head(adapter.features)]
    assert all(tensor.is_meta for each in heads for tensor in each.state_dict().values())
    own = again.own_head()
    again.start(own, again.trunk(), teacher)
    assert all(torch.equal(tensor, teacher.head.state_dict()[each]) for each, tensor in own.state_dict().items())
    assert {name for name, tensor in own.named_parameters() if tensor.requires_grad} == {
        name for name, _ in own.named_parameters() if name.startswith("projection.")
    }


def test_a_random_parent_is_the_same_each_time() -> None:
    """And leaves the global generator where it was."""
    adapter = CLIP(random=True, config={"model_type": "clip"} | CONFIGS["clip"])
    torch.manual_seed(3)
    first = adapter.teacher().state_dict()
    adapter.head(adapter.features).text.requires_grad_(False)
    assert all(torch.equal(tensor, first[name]) for name, tensor in adapter.teacher().state_dict().items())
    torch.manual_seed(3)
    before = torch.get_rng_state()
    adapter.teacher()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_size_that_fits_no_grid_is_its_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SigLIP's 384 pixels are 27 cells of 14 and a rest: it looks at those, and else at multiples of its stride."""
    monkeypatch.setitem(CONFIGS, "siglip", CONFIGS["siglip"] | {"vision_config": VISION | {"image_size": 36}})
    _, teacher, use = parent(write("siglip", tmp_path))
    with network.quiet(), torch.no_grad():
        original = transformers.AutoModel.from_pretrained(tmp_path).eval()
        expected = original.get_image_features(normal(look(36, 36))).pooler_output
    assert (teacher(batch(look(36, 36))) - expected).abs().max() < 1e-5
    assert use.encode_cells(pictures()).shape == (3, 24, 4, 4)
    assert use.encode_cells(pictures(), size=40).shape == (3, 24, 5, 5)
    with pytest.raises(InputError, match="size: 37 x 37 is no multiple"):
        use.encode_image(pictures(), size=37)


def test_without_its_words_a_siglip_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    """In one line, when it is first asked for texts; pictures it still embeds."""
    folder = Path(shutil.copytree(folders["siglip"], tmp_path / "siglip"))
    (folder / "tokenizer.json").unlink()
    use = parent(folder)[2]
    assert use.encode_image(pictures()).shape == (3, 24)
    with pytest.raises(InputError, match=r"no tokenizer\.json beside its weights; put it there") as error:
        use.encode_text(["a dog"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("content", "message"), [("{", "is no tokenizer"), ("big", "more words than")])
def test_words_that_will_not_do(folders: dict[str, Path], tmp_path: Path, content: str, message: str) -> None:
    """A damaged tokenizer, or that of another model."""
    folder = Path(shutil.copytree(folders["siglip"], tmp_path / "siglip"))
    if content == "big":
        made = words()
        made.add_tokens([f"word{number}" for number in range(40)])
        content = made.to_str()
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        CLIP(model=str(folder)).teacher()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"model_type": "clap"}, "random": True}, "'clap' is no CLIP.*did you mean 'clip'"),
        ({"config": {"model_type": "siglip2"}, "random": True}, "did you mean 'siglip'"),
        ({"config": {"model_type": "clip", "projection_dim": "x"}, "random": True}, "cannot build this shape"),
        (
            {"config": {"model_type": "siglip", "vision_config": {"vision_use_head": False}}, "random": True},
            "no space in common",
        ),
        ({"config": {"model_type": "clip"}, "random": True, "window": 2}, "window: 2 has no cell in its middle"),
        ({"config": {"model_type": "clip"}, "random": True, "hidden": (1, 0)}, "hidden"),
        ({"config": {"model_type": "clip"}, "random": True, "layers": 0}, "layers: 0"),
    ],
)
def test_a_parent_that_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    """It names the option or the value, and the remedy."""
    with pytest.raises(InputError, match=message) as error:
        CLIP(**changes).teacher()
    assert "\n" not in str(error.value)


def test_an_image_tower_alone_is_no_clip(tmp_path: Path) -> None:
    """By its own config nor by that of a whole one, whose other half is missing."""
    config = transformers.CLIPConfig(**CONFIGS["clip"])
    with network.quiet():
        transformers.CLIPVisionModelWithProjection(config.vision_config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'clip_vision_model' is no CLIP"):
        CLIP(model=str(tmp_path))
    config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="38 tensors missing, first: logit_scale") as error:
        CLIP(model=str(tmp_path)).teacher()
    assert "\n" not in str(error.value)


def test_nothing_is_said(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """The library's bars, reports and advice stay off the screen, from the options to the first answer."""
    for folder in folders.values():
        use = parent(folder)[2]
        use.encode_image(pictures())
        use.encode_text(["a dog"])
    assert capfd.readouterr() == ("", "")


def plan(base: str, folder: Path) -> dict[str, Any]:
    """A few steps of a tiny SAM with a CLIP of this library, one of them the base."""
    streams = [
        {"data": "images", "size": [32, 64], "batch": 4, "tasks": {"clip": 1}},
        {"data": "masks", "size": 64, "batch": 2, "masks": 2, "fit": "pad", "tasks": {"sam": 1}},
    ]
    return {
        "base": base,
        "parents": {
            "sam": {"adapter": "sam", "options": {"variant": "tiny"}},
            "clip": {"adapter": "transformers_clip", "options": {"model": str(folder), "layers": 1}},
        },
        "data": {
            "images": {"kind": "shapes", "layout": "mixed", "count": 16, "masks": False},
            "masks": {"kind": "shapes", "layout": "several", "count": 16},
        },
        "stages": {
            "distill": {
                "steps": 2,
                "train": {"trunk": 1e-4, "heads.sam": 1e-4, "heads.clip": 1e-3},
                "streams": streams,
            }
        },
    }


@pytest.mark.parametrize("base", ["sam", "clip"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_merge_needs_no_parents(folders: dict[str, Path], tmp_path: Path, name: str, base: str) -> None:
    """As auxiliary of a tiny SAM or as its base; without the parent's files the merged model knows pictures and words.

    Texts are embedded as the parent did, to the last bit.
    """
    folder = Path(shutil.copytree(folders[name], tmp_path / "parent"))
    before = parent(folder)[2]
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan(base, folder)))
    engine.run(recipe.load(str(path), []), tmp_path / "run", name="plan")
    shutil.rmtree(folder)
    merged = model.load(tmp_path / "run" / "merged")
    use = merged.capabilities()["clip"]
    assert isinstance(use, ImageText)
    assert torch.equal(use.encode_text(TEXTS), before.encode_text(TEXTS))
    assert use.text_key() == before.text_key()
    width = before.encode_image(pictures()).shape[1]
    assert use.encode_image(pictures()).shape == (3, width)
    assert use.encode_cells(pictures(), size=64).shape[:2] == (3, width)
    if base == "clip":  # small rates, few steps: nearly its parent
        assert (use.encode_image(pictures()) * before.encode_image(pictures())).sum(1).min() > 0.9
