"""A CLIP of open_clip as base: every family of image towers as a trunk, and what leads into the space of texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.open_clip.own import OwnHead
from vfmerge_adapters.open_clip.vit import positions

import vfmerge
from vfmerge import engine, recipe
from vfmerge.adapter import BaseAdapter, Batch
from vfmerge.errors import InputError
from vfmerge.model import MergedModel, Network

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}
TIMM = {"timm_pool": "", "timm_proj": "linear"}
TOWERS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "vit of means": VIT | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "captioner": VIT | {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "timm convnext": TIMM | {"image_size": 64, "timm_model_name": "test_convnext"},
    "timm vit": TIMM | {"image_size": 160, "timm_model_name": "test_vit"},
    "timm vit classifier": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": None},
    "timm pooled tokens": {
        "image_size": 160,
        "timm_model_name": "test_vit3",
        "timm_pool": "map",
        "timm_proj": None,
    },
    "timm of one size": TIMM | {"image_size": 160, "timm_model_name": "test_vit_relpos"},
}
PYRAMIDS = {"resnet": (32, 64, 128, 256), "timm convnext": (24, 32, 48, 64)}
FIXED = {"timm of one size"}
TEXTS = ["a red circle", "two shapes in the fog"]


def clip(name: str, **options: Any) -> OpenCLIP:
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": TOWERS[name], "text_cfg": TEXT}}
    return OpenCLIP(config=config, random=True, **options)


def pictures() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in [(50, 70), (90, 40)]]


def started(adapter: OpenCLIP, **others: OpenCLIP) -> tuple[MergedModel, Network]:
    """An untrained merge with this base, and the base as it was."""
    adapters = {"clip": adapter, **others}
    teachers = {name: each.teacher() for name, each in adapters.items()}
    model = MergedModel(adapters, base="clip")
    model.start(teachers)
    return model.eval().requires_grad_(False), teachers["clip"]  # torch rounds trainable ones otherwise


def batch(images: Tensor) -> Batch:
    count = len(images)
    names = tuple(map(str, range(count)))
    return Batch(images=images, keys=tuple(range(count)), names=names)


def sides(adapter: OpenCLIP) -> list[tuple[int, int]]:
    """Two sizes that the tower takes, its own first."""
    own, stride = adapter.config.size[0], adapter.features.strides[-1]
    return [(own, own)] if adapter.features.fixed_size else [(own, own), (2 * stride, 3 * stride)]


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_the_trunk_keeps_its_promise(name: str) -> None:
    """Maps of the channels and strides that `features` names, and a summary of its width, in one pass at any size."""
    adapter = clip(name)
    spec, trunk = adapter.features, adapter.trunk().eval()
    assert spec.fixed_size == (160 if name in FIXED else None)
    if name in PYRAMIDS:
        assert (spec.channels, spec.strides) == (PYRAMIDS[name], (4, 8, 16, 32))
    else:
        assert len(spec.channels) == 1
    for height, width in sides(adapter):
        seen = trunk(torch.rand(1, 3, height, width))
        shapes = [tuple(each.shape) for each in seen.maps]
        expected = zip(spec.channels, spec.strides, strict=True)
        assert shapes == [(1, channels, height // stride, width // stride) for channels, stride in expected]
        assert seen.summary.shape == (1, spec.summary)


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_an_untrained_merge_equals_its_base(name: str) -> None:
    """Images, texts and cells at the base's own size, bit for bit; its answers are its teacher's targets."""
    adapter = clip(name)
    model, teacher = started(adapter)
    parent, merged = adapter.capability(teacher), model.capability("clip")
    assert torch.equal(merged.encode_image(pictures()), parent.encode_image(pictures()))
    assert torch.equal(merged.encode_text(TEXTS), parent.encode_text(TEXTS))
    own = adapter.config.size[0]
    some = batch(torch.rand(2, 3, own, own))
    assert torch.equal(model.network("clip")(some), teacher(some))
    if name == "captioner":
        with pytest.raises(InputError, match="no embeddings of cells"):
            merged.encode_cells(pictures())
    else:
        assert torch.equal(merged.encode_cells(pictures()), parent.encode_cells(pictures()))


@pytest.mark.parametrize("name", TOWERS)
def test_the_teachers_trunk_has_the_same_parameters(name: str) -> None:
    """And the own head those of the teacher's, so that both can be filled; together they are open_clip's tower."""
    adapter = clip(name)
    teacher, trunk, head = adapter.teacher(), adapter.trunk(), adapter.own_head()
    for own, theirs in ((trunk, teacher.trunk), (head, teacher.head)):
        assert [(n, p.shape) for n, p in own.named_parameters()] == [(n, p.shape) for n, p in theirs.named_parameters()]
    assert {name for name, p in head.named_parameters() if p.requires_grad}
    assert all(not p.requires_grad for p in head.text.parameters())


@pytest.mark.parametrize("name", TOWERS)
def test_shapes_need_no_memory(name: str) -> None:
    """Trunk and head are built on the meta device too, as `check` does, and give the same shapes there."""
    adapter = clip(name)
    with torch.device("meta"):
        model = MergedModel({"clip": adapter, "other": clip("resnet", layers=1)}, base="clip")
        own = adapter.config.size[0]
        answer = model.network("clip")(batch(torch.zeros(1, 3, own, own)))
    assert answer.shape == (1, 24)
    assert answer.device.type == "meta"


@pytest.mark.parametrize("name", ["vit", "resnet", "timm vit", "timm convnext", "timm pooled tokens"])
@torch.no_grad()
def test_embeddings_follow_the_size(name: str) -> None:
    """The trunk looks at the size that comes, positions interpolated; the parent at its own whatever comes."""
    adapter = clip(name)
    model, teacher = started(adapter)
    own, stride = adapter.config.size[0], adapter.features.strides[-1]
    merged, parent = model.capability("clip"), adapter.capability(teacher)
    larger = own + stride
    cells = merged.encode_cells(pictures(), size=larger)
    assert cells.shape[-2:] == (larger // stride, larger // stride)
    assert torch.equal(cells, parent.encode_cells(pictures(), size=larger))
    assert not torch.allclose(
        merged.encode_image(pictures(), size=larger), parent.encode_image(pictures(), size=larger)
    )
    large = torch.rand(1, 3, larger, larger)
    small = nn.functional.interpolate(large, size=(own, own), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(teacher(batch(large)), teacher(batch(small)))
    with pytest.raises(InputError, match=f"no multiple of the trunk's {stride} pixels"):
        merged.encode_image(pictures(), size=own + 1)
    with pytest.raises(InputError, match=f"no multiple of the trunk's {stride} pixels"):
        model.trunk(torch.rand(1, 3, own + 1, own))


@torch.no_grad()
def test_interpolated_positions_follow_the_picture() -> None:
    """At twice the size the grid of positions is the original's, enlarged; the whole's stays as it is."""
    smooth = torch.linspace(0, 1, 16).view(16, 1).expand(16, 3)
    embedding = torch.cat([torch.full((1, 3), 7.0), smooth])
    large = positions(embedding, (4, 4), 8, 8)
    assert torch.equal(large[0], embedding[0])
    back = nn.functional.avg_pool2d(large[1:].T.unflatten(1, (8, 8)), 2).flatten(1).T
    torch.testing.assert_close(back, smooth, atol=0.05, rtol=0)
    assert positions(embedding, (4, 4), 4, 4) is embedding


@torch.no_grad()
def test_a_tower_of_one_size_says_so() -> None:
    """It is shown every image at that, and its capability refuses others, as does a head on it."""
    adapter, other = clip("timm of one size"), clip("vit", layers=1)
    model, _ = started(adapter, other=other)
    for task in ("clip", "other"):
        capability = model.capability(task)
        assert capability.fixed_size == 160
        assert capability.encode_image(pictures()).shape == (2, 24)
        with pytest.raises(InputError, match="takes 160 alone"):
            capability.encode_image(pictures(), size=96)


def test_an_oblong_tower_lends_no_trunk() -> None:
    """No stream has such images; as an auxiliary it teaches all the same, at its own height and width."""
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": VIT | {"image_size": [32, 48]}, "text_cfg": TEXT}}
    adapter = OpenCLIP(config=config, random=True)
    with pytest.raises(InputError, match="32 x 48"):
        adapter.features  # noqa: B018
    assert adapter.teacher()(batch(torch.rand(2, 3, 64, 64))).shape == (2, 24)


def test_a_size_that_is_no_multiple_is_taken_where_it_is_the_parents_own() -> None:
    """SigLIP's 384 pixels in patches of 14 leave an edge that the parent does not see either."""
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": VIT | {"image_size": 36}, "text_cfg": TEXT}}
    adapter = OpenCLIP(config=config, random=True)
    model, teacher = started(adapter)
    parent, merged = adapter.capability(teacher), model.capability("clip")
    assert torch.equal(merged.encode_image(pictures()), parent.encode_image(pictures()))
    assert merged.encode_cells(pictures()).shape == (2, 24, 4, 4)


@pytest.mark.parametrize("name", ["vit", "resnet", "timm pooled tokens"])
def test_rehearsal_reaches_the_trunk_and_what_projects(name: str) -> None:
    """Its loss at the parent is zero and then trains trunk and own head alone; batch norms keep their statistics."""
    adapter = clip(name)
    model, teacher = started(adapter)
    for name_of, parameter in model.named_parameters():
        parameter.requires_grad_(name_of not in model.fixed)
    model.train()
    own = adapter.config.size[0]
    some = batch(torch.rand(2, 3, own, own))
    statistics = {n: b.clone() for n, b in model.trunk.named_buffers() if "running" in n}
    with torch.no_grad():
        target = teacher(some)
    loss = adapter.loss(model.network("clip")(some), target, some)["cosine"]
    assert loss.shape == (2,)
    assert loss.abs().max() < 1e-6
    (adapter.loss(model.network("clip")(some), target.flip(0), some)["cosine"]).sum().backward()
    idle = {n for n, p in model.named_parameters() if p.grad is None}
    assert idle == {f"heads.clip.{n}" for n, _ in model.heads["clip"].named_parameters() if n.startswith("text.")}
    assert bool(statistics) == (name == "resnet")
    assert all(torch.equal(b, statistics[n]) for n, b in model.trunk.named_buffers() if n in statistics)


@torch.no_grad()
def test_heads_share_one_pass_of_the_trunk() -> None:
    """In the model's capabilities together, and cells and features of the own head come out the same."""
    model, _ = started(clip("resnet"), other=clip("vit", layers=1))
    alone, together = model.capability("clip"), model.capabilities()["clip"]
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(alone.encode_cells(pictures()), together.encode_cells(pictures()))
    one, other = alone.features(images), together.features(images)
    assert torch.equal(one.maps[0], other.maps[0])
    assert torch.equal(one.summary, other.summary)


RECIPE = """\
# The shipped tiny CLIP lends its trunk to another CLIP, in a second
base: clip
parents:
  clip: {adapter: open_clip, options: {model: tiny}}
  other: {adapter: open_clip, options: {checkpoint: CHECKPOINT, layers: 1, hidden: [32, 32]}}
data:
  images: {kind: shapes, layout: mixed, count: 24, size: 64, masks: false}
  held_out: {kind: shapes, layout: single, split: held-out, count: 8, size: 64, masks: false}
stages:
  probe:
    steps: 2
    train: {heads.other: 2e-3}
    cache: true
    streams:
      - {data: images, size: 64, batch: 4, tasks: {other: 1}}
  distill:
    steps: 3
    train: {trunk: 1e-4, heads.clip: 1e-4, heads.other: 1e-3}
    streams:
      - {data: images, size: [64, 96], batch: 4, tasks: {other: 1, clip: 1}}
evaluate:
  classify: {benchmark: zero_shot_classification, data: held_out, size: 64}
  classify_other: {benchmark: zero_shot_classification, data: held_out, image_text: other}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short merge with the tiny CLIP, a ResNet of 64 pixels, as base."""
    folder = tmp_path_factory.mktemp("base")
    other = clip("vit").teacher()
    config = json.loads(json.dumps(clip("vit").portable()["config"]))
    (folder / "other").mkdir()
    (folder / "other" / "open_clip_config.json").write_text(json.dumps(config))
    tensors = {f"visual.{n}": t for n, t in other.trunk.visual.state_dict().items()}
    tensors |= {"visual.proj": other.head.projection.proj} | {
        f"text.{n}": t for n, t in other.head.text.state_dict().items()
    }
    vfmerge.weights.save(folder / "other" / "open_clip_model.safetensors", tensors)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("CHECKPOINT", str(folder / "other")))
    engine.run(recipe.load(str(path)), folder / "run", name="base")
    shutil.rmtree(folder / "other")
    return folder / "run"


def test_a_merge_with_a_clip_as_base(run: Path) -> None:
    """Both skills have a row of retention, rehearsed and learnt at two sizes; the trunk has moved and stays near."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    terms = {term for line in lines for term in line if term.startswith("loss.")}
    assert terms == {"loss.0.other.cosine", "loss.0.clip.cosine"}
    rows = json.loads((run / "retention.json").read_text())
    assert {row["parent"] for row in rows} == {"clip", "other"}
    moved, base = vfmerge.load(run / "merged"), OpenCLIP(model="tiny").teacher()
    distance = [(a - b).abs().max() for a, b in zip(moved.trunk.parameters(), base.trunk.parameters(), strict=True)]
    assert 0 < max(distance) < 0.01


def test_the_saved_model_needs_no_parent(run: Path) -> None:
    """The other parent's files are gone; both heads embed pictures and texts at several sizes."""
    model = vfmerge.load(run / "merged")
    assert isinstance(model.adapters["clip"], BaseAdapter)
    assert isinstance(model.heads["clip"], OwnHead)
    assert model.clip.encode_image(pictures()).shape == (2, 128)
    assert model.clip.encode_cells(pictures(), size=96).shape == (2, 128, 3, 3)
    assert model.other.encode_image(pictures(), size=96).shape == (2, 24)
    assert model.clip.encode_text(TEXTS).shape == (2, 128)
