"""The open_clip adapter against `open_clip` itself: real classes, real file formats, random weights."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import tokenizers
import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.text_aligned.head import ClipHead

from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.data import shapes
from vfmerge.errors import CheckpointError, InputError
from vfmerge.model import Network

TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
TIMM = {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "linear"}
CONVOLUTIONAL = {"image_size": 96, "timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"}
CAPTIONER = VIT | {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2, "output_tokens": True}
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bilinear", "resize_mode": "squash"}
TEXTS = ["a photo of a red circle", "!", "two shapes on top of one another, seen from far away in the fog " * 3, "dog"]

BATCH = Batch(images=torch.zeros(0, 3, 32, 32), keys=(), names=())


def shape(vision: dict[str, Any], **more: Any) -> dict[str, Any]:
    model = {"embed_dim": 24, "vision_cfg": dict(vision), "text_cfg": dict(TEXT)} | more
    return {"model_cfg": model, "preprocess_cfg": PREPROCESS}


def shake(model: nn.Module) -> nn.Module:
    """Random values where the library starts with zeros or ones, so that no term is trivially equal."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and ("bias" in name or "norm" in name or "bn" in name or "mean" in name):
            tensor.add_(0.1 * torch.randn_like(tensor))
    return model.eval()


def clip_of(config: dict[str, Any], kind: type = open_clip.CLIP) -> nn.Module:
    return shake(kind(**copy.deepcopy(config["model_cfg"])))


def write(folder: Path, config: dict[str, Any], model: nn.Module) -> str:
    """A folder in open_clip's `local-dir:` layout."""
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return str(folder)


def pictures() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in [(50, 70), (90, 40)]]


def unit(embeddings: Tensor) -> Tensor:
    return nn.functional.normalize(embeddings, dim=1)


@torch.no_grad()
def own_embeddings(model: nn.Module, preprocess: Any, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Images and texts as open_clip's users embed them."""
    images = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures()])
    return unit(model.encode_image(images)), unit(model.encode_text(tokenizer(TEXTS)))


@torch.no_grad()
def compare(adapter: OpenCLIP, expected: tuple[Tensor, Tensor]) -> None:
    clip = adapter.capability(adapter.teacher())
    torch.testing.assert_close(clip.encode_image(pictures()), expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.encode_text(TEXTS), expected[1], atol=1e-5, rtol=0)


def merged(adapter: OpenCLIP, trunk: nn.Module, *, heads: int | None = 2) -> tuple[Network, Network]:
    """The merged network on an 8-pixel-a-cell trunk of 32 channels, and the teacher."""
    torch.manual_seed(1)
    teacher = adapter.teacher()
    head = adapter.head(FeatureSpec(channels=(32,), strides=(8,), heads=heads))
    adapter.start(head, trunk, teacher)
    return Network(trunk, head), teacher


class Trunk(nn.Module):
    """As SAM's trunk is made: patches, then blocks of segment_anything, the last one global."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, stride=8)
        self.blocks = nn.ModuleList([block(window=2), block(window=0)])

    def forward(self, images: Tensor) -> Features:
        x = self.patches(images).permute(0, 2, 3, 1)
        for each in self.blocks:
            x = each(x)
        return Features(maps=(x.permute(0, 3, 1, 2),))


def block(*, window: int) -> Block:
    norm = lambda width: nn.LayerNorm(width, eps=1e-6)  # noqa: E731
    return shake(Block(32, 2, norm_layer=norm, use_rel_pos=True, window_size=window, input_size=(4, 4)))


@pytest.fixture
def trunk() -> Trunk:
    torch.manual_seed(2)
    return Trunk()


@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", "", "wrapped.pt"])
def test_embeddings_equal_open_clips_own(tmp_path: Path, vision: dict[str, Any], suffix: str) -> None:
    """A folder, a .safetensors and a .pt file, plain or from training, give what open_clip gives for the folder."""
    config = shape(vision)
    model = clip_of(config)
    folder = write(tmp_path / "clip", config, model)
    if suffix == "":
        options = {"checkpoint": folder}
    else:
        path = tmp_path / f"weights{suffix}"
        if suffix == ".safetensors":
            path.write_bytes((tmp_path / "clip" / "open_clip_model.safetensors").read_bytes())
        elif suffix == ".pt":
            torch.save(model.state_dict(), path)
        else:
            wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
            torch.save({"epoch": 3, "state_dict": wrapped}, path)
        options = {"checkpoint": str(path), "config": config}
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    expected = own_embeddings(theirs.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}"))
    compare(OpenCLIP(**options), expected)


def test_real_geometry_equals_open_clips_own(tmp_path: Path) -> None:
    """An architecture by name with a local file: RN50 at 224 pixels, 77 tokens, OpenAI's normalisation."""
    theirs = shake(open_clip.create_model("RN50"))
    path = tmp_path / "rn50.safetensors"
    save_file(theirs.state_dict(), path)
    preprocess = image_transform_v2(PreprocessCfg(size=224), is_train=False)
    expected = own_embeddings(theirs, preprocess, open_clip.get_tokenizer("RN50"))
    compare(OpenCLIP(model="RN50", checkpoint=str(path)), expected)


@pytest.mark.parametrize(
    ("vision", "more"),
    [(VIT, {"quick_gelu": True}), (TIMM, {"custom_text": True}), (CONVOLUTIONAL, {"custom_text": True})],
    ids=["quickgelu", "timm-transformer", "timm-convolutional"],
)
def test_other_towers_equal_open_clips_own(tmp_path: Path, vision: dict[str, Any], more: dict[str, Any]) -> None:
    """QuickGELU, and image towers of timm beside a text tower with a prefix of its own."""
    config = shape(vision, **more)
    plain = {"model_cfg": {name: value for name, value in config["model_cfg"].items() if name != "custom_text"}}
    model = clip_of(plain, open_clip.CustomTextCLIP if "custom_text" in more else open_clip.CLIP)
    folder = write(tmp_path / "clip", config, model)
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    compare(OpenCLIP(checkpoint=folder), own_embeddings(theirs.eval(), preprocess, tokenizer))


def test_a_captioner_is_its_two_towers(tmp_path: Path) -> None:
    """A CoCa embeds as open_clip's own, without its text decoder; its pooling gives no cells, and says so."""
    captions = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = shape(CAPTIONER, multimodal_cfg=captions, custom_text=True)
    config["model_cfg"]["text_cfg"] |= {"embed_cls": True, "output_tokens": True}
    plain = {"model_cfg": {name: value for name, value in config["model_cfg"].items() if name != "custom_text"}}
    model = clip_of(plain, open_clip.CoCa)
    nn.init.zeros_(model.text_decoder.text_projection)  # which open_clip leaves as it finds it
    folder = write(tmp_path / "coca", config, model)
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    adapter = OpenCLIP(checkpoint=folder)
    compare(adapter, own_embeddings(theirs.eval(), preprocess, tokenizer))
    with pytest.raises(InputError, match="no embeddings of cells"):
        adapter.capability(adapter.teacher()).encode_cells(pictures())


def test_a_hub_text_tower_and_tokenizer_in_the_folder(tmp_path: Path) -> None:
    """A text tower and a tokenizer of transformers, both in the folder, give open_clip's own embeddings."""
    folder = tmp_path / "clip"
    bert = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    bert.save_pretrained(folder)
    words = {
        word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "dog", "shapes"])
    }
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = shape(VIT)
    config["model_cfg"]["text_cfg"] = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": "some/where",
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "context_length": 20,
    }
    write(folder, config, clip_of(config, open_clip.CustomTextCLIP))
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    compare(
        OpenCLIP(checkpoint=str(folder)),
        own_embeddings(theirs.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")),
    )


def test_the_targets_are_encode_image_exactly(tmp_path: Path) -> None:
    """The teacher's target for a batch at its own size is open_clip's `encode_image`, bit for bit."""
    config = shape(VIT)
    model = clip_of(config)
    teacher = OpenCLIP(checkpoint=write(tmp_path / "clip", config, model)).teacher()
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(PREPROCESS[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model.requires_grad_(False).encode_image(
            (images - mean) / std
        )  # torch rounds trainable ones otherwise
    assert torch.equal(teacher.head(teacher.encode(images), BATCH), expected)
    large = dataclasses.replace(BATCH, images=torch.rand(2, 3, 48, 48))
    small = nn.functional.interpolate(large.images, size=(32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(teacher(large), teacher(dataclasses.replace(BATCH, images=small)))  # it looks at its own size


def test_shape_alone_rebuilds_the_head(tmp_path: Path, trunk: Trunk) -> None:
    """What `portable` says, through JSON, gives the same numbers when the parent's files are gone."""
    folder = tmp_path / "clip"
    config = shape(RESNET, quick_gelu=True)
    adapter = OpenCLIP(checkpoint=write(folder, config, clip_of(config)), layers=1, hidden=(20, 28), cells=3, size=48)
    network, teacher = merged(adapter, trunk)
    before = adapter.capability(network)
    assert torch.equal(before.encode_text(TEXTS), adapter.capability(teacher).encode_text(TEXTS))
    expected = before.encode_image(pictures()), before.encode_text(TEXTS), before.encode_cells(pictures())
    portable = json.loads(json.dumps(adapter.portable()))
    for path in folder.iterdir():
        path.unlink()
    rebuilt = OpenCLIP(**portable)
    assert rebuilt.sources == ()
    assert rebuilt.portable() == portable
    head = rebuilt.head(FeatureSpec(channels=(32,), strides=(8,), heads=2))
    head.load_state_dict(network.head.state_dict())
    after = rebuilt.capability(Network(trunk, head))
    answers = after.encode_image(pictures()), after.encode_text(TEXTS), after.encode_cells(pictures())
    assert all(torch.equal(a, b) for a, b in zip(answers, expected, strict=True))
    with pytest.raises(InputError, match="without weights"):
        rebuilt.teacher()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "needs weights"),
        ({"model": "ViT-B-61", "random": True}, "did you mean 'ViT-B-16'"),
        ({"pretrained": "openai", "random": True}, "pretrained and random"),
        ({"model": "tiny", "pretrained": "openai"}, "of an architecture of open_clip"),
        ({"checkpoint": "nowhere.pt"}, "does not exist"),
        ({"checkpoint": "."}, "open_clip_config.json: No such file"),
        ({"config": {"model_cfg": {"embed_dim": 0}}}, "model_cfg.embed_dim"),
        ({"config": shape(TIMM | {"timm_model_name": "hf-hub:some/where"})}, "plain name"),
        ({"random": True, "cells": 0}, "cells: 0"),
        ({"random": True, "hidden": (4,)}, "hidden: \\[4\\]"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], match: str
) -> None:
    """Weights are never random unasked, and each mistake is one line that names the option."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=match) as caught:
        OpenCLIP(**options)
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)


def test_an_unknown_tag_is_refused_before_any_download() -> None:
    """A mistyped tag names its nearest, and nothing is fetched."""
    with pytest.raises(InputError, match="did you mean 'laion2b_s34b_b88k'"):
        OpenCLIP(model="ViT-B-16", pretrained="laion2b_s34b_b88").teacher()


def test_a_tag_that_cannot_be_fetched_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network, a tag is an error that names the way out, and never a model with random weights."""

    def offline(entry: dict[str, Any]) -> str:
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(InputError, match="give a local file as `checkpoint`"):
        OpenCLIP(model="RN50", pretrained="openai").teacher()


def test_a_tag_settles_the_activation() -> None:
    """OpenAI's weights get QuickGELU in the plain architecture, others keep GELU, and the option overrules both."""
    openai = OpenCLIP(model="ViT-B-16", pretrained="openai").portable()["config"]
    laion = OpenCLIP(model="ViT-B-16", pretrained="laion2b_s34b_b88k").portable()["config"]
    overruled = OpenCLIP(model="ViT-B-16", pretrained="openai", quickgelu=False).portable()["config"]
    quick = [config["model_cfg"]["quick_gelu"] for config in (openai, laion, overruled)]
    assert quick == [True, False, False]


def test_a_local_file_gets_what_its_architecture_expects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SigLIP's own preprocessing for a SigLIP's file; a word about QuickGELU where it may be needed."""
    path = tmp_path / "weights.safetensors"
    path.touch()
    siglip = OpenCLIP(model="ViT-B-16-SigLIP", checkpoint=str(path)).portable()["config"]["preprocess_cfg"]
    assert (siglip["mean"], siglip["resize_mode"]) == ([0.5, 0.5, 0.5], "squash")
    assert not caplog.records
    OpenCLIP(model="ViT-L-14-336", checkpoint=str(path)).portable()
    assert "set quickgelu: true" in caplog.text


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    """A ViT's file in a ResNet's shape is a `CheckpointError` and not a half-filled model."""
    path = tmp_path / "vit.safetensors"
    save_file(clip_of(shape(VIT)).state_dict(), path)
    with pytest.raises(CheckpointError, match="missing"):
        OpenCLIP(checkpoint=str(path), config=shape(RESNET)).teacher()


def test_random_weights_are_the_same_each_time() -> None:
    """A dry run that is resumed meets the same random parent, whatever was drawn before."""
    first = OpenCLIP(config=shape(VIT), random=True).teacher().state_dict()
    torch.rand(7)
    second = OpenCLIP(config=shape(VIT), random=True).teacher().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_layers_start_as_copies_of_the_trunks_last_block(trunk: Trunk) -> None:
    """Each layer computes what SAM's own last block does, once that block's relative positions are zero."""
    network, _ = merged(OpenCLIP(config=shape(VIT), random=True), trunk)
    last = trunk.blocks[-1]
    nn.init.zeros_(last.attn.rel_pos_h)
    nn.init.zeros_(last.attn.rel_pos_w)
    x = torch.randn(2, 4, 4, 32)
    assert len(network.head.layers) == 3
    for layer in network.head.layers:
        torch.testing.assert_close(layer(x.flatten(1, 2)), last(x).flatten(1, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("heads", [4, None])
def test_a_block_that_computes_something_else_is_not_copied(
    trunk: Trunk, heads: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """With another number of attention heads the same weights mean something else: random, and it is said."""
    with caplog.at_level(logging.INFO, logger="vfmerge"):
        network, _ = merged(OpenCLIP(config=shape(VIT), random=True), trunk, heads=heads)
    assert not torch.equal(network.head.layers[0].qkv.weight, trunk.blocks[-1].attn.qkv.weight)
    assert "start at random" in caplog.text


def test_gradients_reach_the_head_and_the_trunk_alone(trunk: Trunk) -> None:
    """The text tower and the teacher stay as they are; everything else of head and trunk learns."""
    adapter = OpenCLIP(config=shape(VIT), random=True)
    network, teacher = merged(adapter, trunk)
    images = torch.rand(2, 3, 32, 32)
    answer = network.head(network.encode(images), BATCH)
    target = teacher.head(teacher.encode(images), BATCH)
    adapter.loss(answer, target, BATCH)["cosine"].sum().backward()
    untouched = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert untouched == {f"head.{name}" for name, _ in network.head.named_parameters() if name.startswith("text.")}
    assert not any(p.requires_grad for p in [*teacher.parameters(), *network.head.text.parameters()])
    network.train()
    assert network.head.training
    assert not network.head.text.training


def test_the_loss_is_zero_for_the_teacher_and_falls(trunk: Trunk) -> None:
    """No distance to the target itself, one number an image, and ten steps bring the answer nearer."""
    adapter = OpenCLIP(config=shape(RESNET), random=True)
    network, teacher = merged(adapter, trunk)
    images = torch.rand(4, 3, 64, 64)
    target = teacher.head(teacher.encode(images), BATCH)
    torch.testing.assert_close(adapter.loss(3 * target, target, BATCH)["cosine"], torch.zeros(4), atol=1e-6, rtol=0)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    history = []
    for _ in range(10):
        loss = adapter.loss(network.head(network.encode(images), BATCH), target, BATCH)["cosine"]
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        history.append(float(loss.detach().mean()))
    assert history[-1] < 0.5 * history[0]


def test_the_image_is_the_largest_of_its_cells(trunk: Trunk) -> None:
    """Max-pooling over cells, then LayerNorm and MLP: one cell larger than all others decides the embedding."""
    head = OpenCLIP(config=shape(VIT), random=True, layers=1).head(FeatureSpec(channels=(32,), strides=(8,), heads=2))
    head.layers[0] = nn.Identity()
    cells = torch.randn(1, 32, 3, 5)
    cells[:, :, 1, 2] = 5 + torch.rand(32)
    alone = head.embed(Features(maps=(cells[:, :, 1:2, 2:3],)))
    torch.testing.assert_close(head.embed(Features(maps=(cells,))), alone)
    torch.testing.assert_close(head.cells(lambda _: Features(maps=(cells,)), torch.zeros(0))[:, :, 1, 2], alone)


def test_large_maps_are_averaged_before_attention(trunk: Trunk) -> None:
    """At most `cells` a side are attended over; a map that fits is left as it is."""
    network, _ = merged(OpenCLIP(config=shape(VIT), random=True, cells=4), trunk)
    assert isinstance(network.head, ClipHead)
    fine = torch.randn(1, 32, 8, 6)
    coarse = fine.unflatten(2, (4, 2)).unflatten(4, (3, 2)).mean((3, 5))
    torch.testing.assert_close(network.head.embed(Features(maps=(fine,))), network.head.embed(Features(maps=(coarse,))))
    cells = network.head.cells(trunk, torch.rand(1, 3, 32, 24))
    assert cells.shape == (1, 24, 4, 3)


def test_a_cell_pools_its_window() -> None:
    """With `window: 3` one large cell decides its neighbours too, and no cell further away."""
    spec = FeatureSpec(channels=(32,), strides=(8,), heads=2)
    head = OpenCLIP(config=shape(VIT), random=True, layers=1, window=3).head(spec)
    head.layers[0] = nn.Identity()
    cells = torch.randn(1, 32, 5, 5)
    cells[:, :, 0, 1] = 5 + torch.rand(32)
    given = head.cells(lambda _: Features(maps=(cells,)), torch.zeros(0))[0]
    alone = head.embed(Features(maps=(cells[:, :, :1, 1:2],)))[0]
    same = (given - alone[:, None, None]).abs().amax(0) < 1e-4
    assert same.nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    with pytest.raises(InputError, match="window: 2"):
        OpenCLIP(config=shape(VIT), random=True, window=2)


def test_merged_cells_are_unit_and_follow_the_size(trunk: Trunk) -> None:
    """A unit vector for each of the trunk's cells at both sizes; a size that cannot be is refused."""
    adapter = OpenCLIP(config=shape(VIT), random=True)
    network, _ = merged(adapter, trunk)
    clip = adapter.capability(network)
    assert clip.encode_cells(pictures()).shape == (2, 24, 4, 4)  # by default the parent's own 32 pixels
    cells = clip.encode_cells(pictures(), size=48)
    assert cells.shape == (2, 24, 6, 6)
    torch.testing.assert_close(cells.norm(dim=1), torch.ones(2, 6, 6))
    assert clip.encode_image(pictures(), size=64).shape == (2, 24)
    with pytest.raises(InputError, match="no multiple of the trunk's 8 pixels"):
        clip.encode_image(pictures(), size=50)


def test_images_are_cropped_and_cells_are_of_the_whole_picture(trunk: Trunk) -> None:
    """For a parent that crops the centre, what lies at a wide picture's edge moves the cells but not the image."""
    config = shape(VIT)
    config["preprocess_cfg"] = PREPROCESS | {"resize_mode": "shortest"}
    adapter = OpenCLIP(config=config, random=True)
    clip = adapter.capability(merged(adapter, trunk)[0])
    wide = np.zeros((32, 96, 3), dtype=np.uint8)
    marked = wide.copy()
    marked[:, :16] = 255
    assert torch.equal(clip.encode_image([wide]), clip.encode_image([marked]))
    assert not torch.allclose(clip.encode_cells([wide])[..., 0], clip.encode_cells([marked])[..., 0], atol=1e-3)


def test_texts_do_not_depend_on_their_company() -> None:
    """Texts are embedded sorted by length and without padding: the order and the others change nothing."""
    adapter = OpenCLIP(config=shape(VIT), random=True)
    clip = adapter.capability(adapter.teacher())
    texts = [f"{'very ' * (i % 7)}small dog number {i}" for i in range(300)]
    together = clip.encode_text(texts)
    for i in (0, 6, 150, 299):
        torch.testing.assert_close(clip.encode_text([texts[i]])[0], together[i], atol=1e-5, rtol=0)


@torch.no_grad()
def test_resnet_cells_are_the_attention_pools_values() -> None:
    """With queries and positions at zero the pool weighs all cells alike, so the image is the mean of its cells."""
    teacher = OpenCLIP(config=shape(RESNET), random=True).teacher()
    shake(teacher)
    pool = teacher.head.projection.attnpool
    for tensor in (pool.q_proj.weight, pool.q_proj.bias, pool.positional_embedding):
        tensor.zero_()
    images = torch.rand(2, 3, 64, 64)
    cells = teacher.head.cells(teacher.trunk, images)
    assert cells.shape == (2, 24, 2, 2)
    embeddings = teacher.head.embed(teacher.encode(images))
    torch.testing.assert_close(cells.mean((2, 3)), embeddings, atol=1e-5, rtol=1e-5)
    assert cells.std((2, 3)).min() > 0
    assert teacher.head.cells(teacher.trunk, torch.rand(1, 3, 128, 90)).shape == (1, 24, 4, 3)


@torch.no_grad()
def test_vit_cells_are_the_last_attentions_values() -> None:
    """A cell's embedding is the last block's value path, spelt out; other sizes have other numbers of cells."""
    teacher = OpenCLIP(config=shape(VIT), random=True).teacher()
    shake(teacher)
    visual, images = teacher.trunk.visual, torch.rand(2, 3, 32, 32)
    normal = (images - teacher.trunk.mean) / teacher.trunk.std
    before = visual.forward_intermediates(normal, indices=[0], output_fmt="NLC")["image_intermediates"][0]
    last = visual.transformer.resblocks[-1]
    weight, bias = last.attn.in_proj_weight[96:], last.attn.in_proj_bias[96:]
    x = before + last.attn.out_proj(last.ln_1(before) @ weight.T + bias)
    expected = visual.ln_post(x + last.mlp(last.ln_2(x))) @ teacher.head.projection.proj
    cells = teacher.head.cells(teacher.trunk, images)
    torch.testing.assert_close(cells.flatten(2).transpose(1, 2), expected, atol=1e-5, rtol=1e-5)
    assert teacher.head.cells(teacher.trunk, torch.rand(1, 3, 64, 45)).shape == (1, 24, 8, 6)


@torch.no_grad()
@pytest.mark.parametrize(("vision", "side"), [(TIMM, 14), (CONVOLUTIONAL, 3)], ids=["transformer", "convolutional"])
def test_timm_cells_average_to_the_image(vision: dict[str, Any], side: int) -> None:
    """For a tower that averages its cells and projects them without a norm between, so do the cells' embeddings."""
    teacher = OpenCLIP(config=shape(vision, custom_text=True), random=True).teacher()
    if vision is TIMM:
        teacher.trunk.visual.trunk.fc_norm = nn.Identity()
    else:
        teacher.head.projection.norm = nn.Flatten()
    images = torch.rand(1, 3, *teacher.head.size)
    cells = teacher.head.cells(teacher.trunk, images)
    assert cells.shape == (1, 24, side, side)
    embeddings = teacher.head.embed(teacher.encode(images))
    torch.testing.assert_close(cells.mean((2, 3)), embeddings, atol=1e-4, rtol=1e-4)


def test_the_tiny_parent_comes_with_its_weights() -> None:
    """`tiny` needs no file of the user's, has a licence, and embeds a circle nearer to its name than to another's."""
    adapter = OpenCLIP(model="tiny")
    assert adapter.licence == "Apache-2.0"
    assert all(path.is_file() for path in adapter.sources)
    clip = adapter.capability(adapter.teacher())
    scenes = [shapes.scene(seed=7, split="test", index=i, layout="single", size=64) for i in range(40)]
    names = sorted({scene.caption.split(" ", 1)[1] for scene in scenes})
    truth = torch.tensor([names.index(scene.caption.split(" ", 1)[1]) for scene in scenes])
    guess = (clip.encode_image([s.image for s in scenes]) @ clip.encode_text([f"a {n}" for n in names]).T).argmax(1)
    assert (guess == truth).float().mean() > 0.5
