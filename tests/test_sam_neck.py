"""SAM's learned neck on another model's pyramid: Open-Vocabulary SAM's SAM2CLIP."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling.image_encoder import Block
from torch import nn
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.sam.approach import Approach
from vfmerge_adapters.sam.pyramid_neck import PyramidNeck

from vfmerge import options
from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.errors import InputError
from vfmerge.features.settings import Distill
from vfmerge.model import MergedModel, Network, count, load

SMALL = {"depth": 4, "width": 32, "heads": 2, "global_blocks": [3], "decoder_width": 16, "decoder_mlp": 32}
SMALL |= {"decoder_heads": 2}
PYRAMID = FeatureSpec(channels=(8, 12, 16, 20), strides=(4, 8, 16, 32))
SPECS = {
    "pyramid": PYRAMID,
    "one finer": FeatureSpec(channels=(12,), strides=(2,)),
    "one coarser": FeatureSpec(channels=(12,), strides=(32,), fixed_size=64),
}


def sam(**changes: Any) -> SAM:
    return SAM(variant="tiny", random=True, geometry=SMALL, **{"learn": "features", "blocks": 3} | changes)


def maps(spec: FeatureSpec, *, height: int, width: int, images: int = 2) -> Features:
    """What a trunk could have given for images of that size."""
    draw = torch.Generator().manual_seed(0)
    pairs = zip(spec.channels, spec.strides, strict=True)
    return Features(maps=tuple(torch.rand(images, c, height // s, width // s, generator=draw) for c, s in pairs))


def batch() -> Batch:
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    return Batch(images=images, keys=(1, 2), names=("a", "b"))


def neck(spec: FeatureSpec = PYRAMID, **changes: Any) -> PyramidNeck:
    """With positions and rel-pos that are not zero."""
    torch.manual_seed(0)
    approach = sam(**changes).head(spec).approach
    assert isinstance(approach, PyramidNeck)
    for name, tensor in approach.state_dict().items():
        if "pos" in name:
            tensor.normal_()
    return approach.eval()


def test_it_is_as_large_as_the_published_one() -> None:
    """On RN50x16, with ViT-H's numbers: 129 M (arXiv 2401.02955, supplement 1.3), of which only tiny parts differ."""
    spec = OpenCLIP(model="RN50x16", random=True).features
    assert (spec.channels, spec.strides) == ((384, 768, 1536, 3072), (4, 8, 16, 32))
    with torch.device("meta"):
        head = SAM(variant="vit_h", random=True, learn="features", blocks=5).head(spec)
    assert count(head.approach) + count(head.neck) == pytest.approx(129e6, rel=0.02)
    assert [block.window_size for block in head.approach.blocks] == [14, 14, 14, 14, 0]
    assert {type(block) for block in head.approach.blocks} == {Block}
    assert head.approach.blocks[-1].attn.rel_pos_h.shape == (127, 80)
    assert head.approach.position.shape == (1, 64, 64, 1280)


@torch.no_grad()
def test_the_sum_of_levels_is_what_it_says() -> None:
    """Against patches cut out by hand: a product with the kernel for each, an encoding for each, all of them added."""
    approach, features = neck(), maps(PYRAMID, height=64, width=96)
    expected = torch.zeros(2, 32, 8, 12)  # of patches of 8 pixels
    for number, (patch, each) in enumerate(zip(approach.patches, features.maps, strict=True)):
        stride = PYRAMID.strides[number]
        for y, x in itertools.product(range(8), range(12)):
            top, left = 8 * y // stride, 8 * x // stride
            if stride <= 8:  # the kernel as it lies on all of the patch's cells
                side = 8 // stride
                value = each[:, :, top : top + side, left : left + side].flatten(1) @ patch.weight.flatten(1).T
            else:  # that part of the kernel which paints this patch of the cell's several
                times = stride // 8
                value = each[:, :, top, left] @ patch.weight[:, :, y % times, x % times]
            expected[:, :, y, x] += value + patch.bias + approach.levels[number]
    torch.testing.assert_close(approach.embed(features), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_and_blocks_follow() -> None:
    """The blocks that the library's own encoder would run, on the sum of patches and positions."""
    approach, features = neck(), maps(PYRAMID, height=96, width=96)
    x = approach.embed(features).permute(0, 2, 3, 1) + approach.position
    for block in approach.blocks:
        x = block(x)
    assert torch.equal(approach(features), x.permute(0, 3, 1, 2))
    without = approach(features)
    approach.position.zero_()
    assert not torch.allclose(approach(features), without)


@torch.no_grad()
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 160), (128, 128)])
def test_any_pyramid_at_any_size(name: str, height: int, width: int) -> None:
    """One map or several, finer or coarser than SAM's cells, at sizes that are not SAM's and not square."""
    found = neck(SPECS[name])(maps(SPECS[name], height=height, width=width))
    assert found.shape == (2, 32, height // 8, width // 8)
    assert found.isfinite().all()


@torch.no_grad()
def test_it_starts_with_what_the_parent_knows() -> None:
    """Its positions, its neck and its decoder, in the parent's precision; patches and levels stay as they were."""
    adapter = sam()
    teacher = adapter.teacher()
    teacher.trunk.pos_embed.normal_()
    head = adapter.head(PYRAMID)
    levels = head.approach.levels.clone()
    adapter.start(head, nn.Identity(), teacher)
    assert torch.equal(head.approach.position, teacher.trunk.pos_embed)
    assert "position" in head.approach.state_dict()
    assert "position" not in dict(head.approach.named_parameters())
    for part in ("neck", "prompt_encoder", "mask_decoder"):
        theirs = getattr(teacher.head, part).state_dict()
        assert all(torch.equal(theirs[name], ours) for name, ours in getattr(head, part).state_dict().items())
    assert torch.equal(head.approach.levels, levels)
    assert levels.std() == pytest.approx(1, abs=0.3)


@torch.no_grad()
def test_blocks_start_as_the_parents_last_of_their_kind() -> None:
    """Those in windows as its last in windows, the global one as its last global one; too few leave the first ones."""
    adapter = SAM(variant="tiny", random=True, geometry=SMALL | {"global_blocks": [1, 3]}, learn="features", blocks=4)
    teacher, head = adapter.teacher(), adapter.head(PYRAMID)
    first = {name: tensor.clone() for name, tensor in head.approach.blocks[0].state_dict().items()}
    adapter.start(head, nn.Identity(), teacher)
    started = [None, *(teacher.trunk.blocks[number].state_dict() for number in (0, 2, 3))]
    for block, expected in zip(head.approach.blocks, started, strict=True):
        found = block.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in (expected or first).items())


def test_only_the_neck_is_learnt() -> None:
    """Gradients reach every patch embedding, level and block, and SAM's neck; the decoder is frozen."""
    head = sam().head(PYRAMID)
    head(maps(PYRAMID, height=96, width=96), batch()).parts["cells"].square().mean().backward()
    learning = {name for name, parameter in head.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[0] for name in learning} == {"approach", "neck"}
    assert learning == {name for name, parameter in head.named_parameters() if parameter.requires_grad}


def pair(blocks: int) -> tuple[MergedModel, SAM, dict[str, Network]]:
    """The tiny CLIP, a ResNet, with the tiny SAM's head on it, started from them both; and the two parents."""
    clip, adapter = OpenCLIP(model="tiny"), SAM(variant="tiny", learn="features", blocks=blocks)
    teachers = {"clip": clip.teacher(), "sam": adapter.teacher().requires_grad_(False)}
    torch.manual_seed(0)
    model = MergedModel({"clip": clip, "sam": adapter}, base="clip")
    model.start(teachers)
    return model, adapter, teachers


def test_a_frozen_clip_is_learnt_from() -> None:
    """Eight steps on the neck alone bring the embedding of the tiny CLIP's pictures nearer to the tiny SAM's."""
    model, adapter, teachers = pair(blocks=2)
    head = model.heads["sam"].train()
    with torch.no_grad():
        features, target = model.trunk(batch().images), teachers["sam"](batch())
    adam = torch.optim.AdamW([p for p in head.parameters() if p.requires_grad], lr=1e-3)
    history = []
    for _ in range(8):
        loss = adapter.loss(head(features, batch()), target, batch())["cells"].mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]


@torch.no_grad()
def test_a_merged_model_is_rebuilt_from_its_folder(tmp_path: Path) -> None:
    """With the neck, from shapes alone, and is prompted as before."""
    model, _, _ = pair(blocks=2)
    model.save(tmp_path / "merged", names={"clip": "open_clip", "sam": "sam"}, texts={})
    again = load(tmp_path / "merged")
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    box = torch.tensor([[5.0, 8.0, 40.0, 30.0]])
    ours, theirs = (each.sam.set_image(picture).predict(boxes=box)[0] for each in (model, again))
    assert torch.equal(ours, theirs)


def test_options_come_back_as_they_were() -> None:
    """Through JSON and the check of options, for both ways to learn; a base's own head has no such neck."""
    for adapter in (sam(), sam(learn="masks"), sam(distill=Distill(cells="mse", standardise="phi_s"))):
        plain = json.loads(json.dumps(adapter.portable()))
        again = SAM(**options.check_options(SAM, plain, where="here"))
        assert again.portable() == adapter.portable()
        shapes = [{name: t.shape for name, t in each.head(PYRAMID).state_dict().items()} for each in (adapter, again)]
        assert shapes[0] == shapes[1]
        assert isinstance(again.head(PYRAMID).approach, PyramidNeck)
        assert isinstance(again.own_head().approach, Approach)
    assert isinstance(sam(blocks=0).head(PYRAMID).approach, Approach)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"blocks": -1}, "here.blocks: .*-1.*"),
        ({"blocks": 2, "distill": {"layers": 1, "cells": "mse"}}, "distill.layers: .*blocks.*"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], message: str) -> None:
    """In one line that names the option."""
    with pytest.raises(InputError, match=f"^{message}$"):
        SAM(**options.check_options(SAM, {"variant": "tiny", "learn": "features"} | given, where="here"))


@pytest.mark.parametrize("stride", [14, 12, 3])
def test_cells_that_do_not_fill_patches_are_refused(stride: int) -> None:
    """A stride that is neither a part of SAM's patch nor a multiple of it, in one line that says so."""
    with pytest.raises(InputError, match=rf"^blocks: .* {stride} pixels .* 8, .*$"):
        sam().head(FeatureSpec(channels=(8, 12), strides=(4, stride)))


def test_maps_that_patches_do_not_fill_are_refused() -> None:
    """Their edge would not be seen, and prompts would mean another place."""
    spec = SPECS["one finer"]
    with pytest.raises(InputError, match=r"^size: maps of 48 x 50 cells .* 4 a patch"):
        neck(spec)(maps(spec, height=96, width=100))
