"""Embeddings of regions from features of whole images: each family of text-aligned heads against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.text_aligned.aligned import TextAligned
from vfmerge_adapters.text_aligned.regions import mean_under
from vfmerge_adapters.transformers_clip import CLIP

from vfmerge.adapter import BaseAdapter, Features
from vfmerge.capability import ImageText
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.model import MergedModel

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}
TOWERS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "captioner": VIT | {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "convnext": {
        "image_size": 64,
        "timm_model_name": "test_convnext",
        "timm_pool": "",
        "timm_proj": "linear",
    },
    "siglip": {"image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": None},
}
VISION = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
WORDS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def open_clip(name: str, **options: Any) -> OpenCLIP:
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": TOWERS[name], "text_cfg": TEXT}}
    return OpenCLIP(config=config, random=True, **options)


def transformers_clip(kind: str) -> CLIP:
    text = WORDS | {"max_position_embeddings": 12, "projection_size": 24}
    config = {"model_type": kind, "vision_config": VISION, "text_config": text, "projection_dim": 20}
    return CLIP(random=True, config=config)


def parts(adapter: BaseAdapter) -> tuple[Any, Any]:
    """A parent's trunk and own head, shaken, so that a norm that is left out shows."""
    teacher = adapter.teacher()
    draw = torch.Generator().manual_seed(0)
    for tensor in [*teacher.trunk.parameters(), *teacher.head.projection.parameters()]:
        tensor.add_(0.1 * torch.randn(tensor.shape, generator=draw))
    return teacher.trunk, teacher.head


def look(*, cells: tuple[int, int], stride: int = 32, count: int = 2) -> Tensor:
    frame = cells[0] * stride, cells[1] * stride
    return torch.rand(count, 3, *frame, generator=torch.Generator().manual_seed(1))


def regions(head: TextAligned, features: Features, frame: tuple[int, int], **given: Any) -> Tensor:
    """Of both images where nothing else is said: everything."""
    boxes = torch.tensor([[0.0, 0.0, frame[1], frame[0]]] * 2)
    asked = {"boxes": boxes, "masks": torch.ones(2, 16, 16), "owner": torch.arange(2)} | given
    return head.regions(features, frame=frame, **asked)


def masks_of(*cells: tuple[int, int], side: int = 4) -> Tensor:
    """Logits [1, s, s], four to a cell of a map of `side` cells, above 0 in the cells that are named."""
    small = torch.full((1, side, side), -1.0)
    for row, column in cells:
        small[0, row, column] = 1
    return small.repeat_interleave(4, 1).repeat_interleave(4, 2)


@pytest.mark.parametrize("name", ["resnet", "convnext"])
@torch.no_grad()
def test_the_whole_image_is_a_region(name: str) -> None:
    """At the parent's own size, the box and the mask of everything are embedded as the image is."""
    trunk, head = parts(open_clip(name))
    seen = trunk(look(cells=(2, 2)))
    torch.testing.assert_close(regions(head, seen, (64, 64)), head.embed(seen), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_resnet_pools_a_box_as_it_pools_an_image() -> None:
    """RoIAlign of a box of whole cells is these cells: their embedding is that of a map which holds nothing else."""
    trunk, head = parts(open_clip("resnet"))
    seen = trunk(look(cells=(4, 5)))
    boxes = torch.tensor([[32.0, 64, 96, 128], [96, 0, 160, 64], [64, 32, 128, 96]])
    found = regions(head, seen, (128, 160), boxes=boxes, masks=torch.ones(3, 8, 8), owner=torch.tensor([1, 0, 1]))
    cut = [seen.maps[-1][1, :, 2:4, 1:3], seen.maps[-1][0, :, 0:2, 3:5], seen.maps[-1][1, :, 1:3, 2:4]]
    expected = head.projection.attnpool(torch.stack(cut))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_convnext_averages_under_the_mask() -> None:
    """The mean of the cells in the mask goes through norm and projection; other cells have no say."""
    trunk, head = parts(open_clip("convnext"))
    seen = trunk(look(cells=(4, 4)))
    found = regions(head, seen, (128, 128), masks=masks_of((1, 2), (3, 0)).expand(2, -1, -1))
    pooled = (seen.maps[-1][:, :, 1, 2] + seen.maps[-1][:, :, 3, 0]) / 2
    expected = head.embed(Features(maps=(), summary=pooled))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("adapter", [open_clip("siglip"), transformers_clip("siglip")], ids=["timm", "transformers"])
@torch.no_grad()
def test_where_attention_pools_a_region_is_the_mean_of_its_cells(adapter: BaseAdapter) -> None:
    """Of their unit embeddings, which are those that `cells` gives."""
    trunk, head = parts(adapter)
    stride = adapter.features.strides[-1]
    images = look(cells=(4, 4), stride=stride)
    found = regions(head, trunk(images), (4 * stride, 4 * stride), masks=masks_of((0, 3), (2, 2)).expand(2, -1, -1))
    cells = F.normalize(head.cells(trunk, images), dim=1)
    torch.testing.assert_close(found, (cells[:, :, 0, 3] + cells[:, :, 2, 2]) / 2, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_distilled_head_averages_its_cells() -> None:
    """On another trunk, from features that are there already."""
    adapters = {"base": open_clip("resnet"), "clip": open_clip("vit", layers=1)}
    model = MergedModel(adapters, base="base").eval()
    images, head = look(cells=(4, 4)), model.heads["clip"]
    found = regions(head, model.trunk(images), (128, 128), masks=masks_of((2, 1)).expand(2, -1, -1))
    torch.testing.assert_close(F.normalize(found), F.normalize(head.cells(model.trunk, images)[:, :, 2, 1]))


@pytest.mark.parametrize(
    "adapter",
    [open_clip("vit"), open_clip("captioner"), transformers_clip("clip")],
    ids=["vit", "captioner", "library"],
)
@torch.no_grad()
def test_a_vit_says_that_it_has_none(adapter: BaseAdapter) -> None:
    """In one line, with a remedy: its cells go another way through the trunk than the image does."""
    trunk, head = parts(adapter)
    assert not head.regional
    with pytest.raises(InputError, match=r"^\w+: .* no embeddings of regions; use a CLIP of convolutions$"):
        regions(head, trunk(look(cells=(1, 1))), (32, 32))


@torch.no_grad()
def test_means_under_masks() -> None:
    """A mask finer than the map is brought to it bilinearly; an empty one is everywhere; each is of its own map."""
    maps = torch.rand(2, 3, 4, 4)
    masks = torch.cat([masks_of((0, 0)), masks_of(), masks_of((1, 1), (1, 2), (2, 1), (2, 2))])
    found = mean_under(maps, masks, torch.tensor([1, 0, 0]))
    expected = [maps[1, :, 0, 0], maps[0].mean((1, 2)), maps[0, :, 1:3, 1:3].mean((1, 2))]
    torch.testing.assert_close(found, torch.stack(expected))
    assert mean_under(maps, masks[:0], torch.arange(0)).shape == (0, 3)


@pytest.fixture(scope="module")
def tiny() -> ImageText:
    adapter = OpenCLIP(model="tiny")
    return adapter.capability(adapter.teacher())


@torch.no_grad()
def test_masks_of_a_picture_become_boxes_of_the_input(tiny: ImageText) -> None:
    """The picture is stretched; a mask of whole cells is what the pool makes of these, an empty one of everything."""
    picture = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    masks = torch.zeros(2, 48, 96, dtype=torch.bool)
    masks[0, 12:36, 48:] = True  # of 48 x 96 pixels, stretched to 128 x 128: rows 32 to 96, columns 64 to 128
    found = tiny.encode_regions(picture, masks, size=128)
    stretched = np.asarray(Image.fromarray(picture).resize((128, 128), Image.Resampling.BICUBIC))
    seen = tiny.network.trunk(torch.from_numpy(stretched.copy()).permute(2, 0, 1)[None].float() / 255)
    pool = tiny.network.head.projection.attnpool
    cells = seen.maps[-1]
    expected = F.normalize(pool(torch.cat([cells[..., 1:3, 2:4], F.avg_pool2d(cells, 2)])))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert tiny.encode_regions(picture, masks[:0], size=128).shape == (0, 128)


@torch.no_grad()
def test_a_vit_falls_back_on_its_cells() -> None:
    """Regions of a picture are to be had of every model that has cells."""
    adapter = open_clip("vit")
    clip = adapter.capability(adapter.teacher())
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[0, 8:16, 16:24] = True
    cells = clip.encode_cells([picture], size=32)
    torch.testing.assert_close(clip.encode_regions(picture, masks, size=32), cells[:, :, 1, 2])


def test_regions_are_named(tiny: ImageText) -> None:
    """The tiny CLIP, one look at each scene of several shapes: most are called what they are, of 48 names."""
    scenes = Shapes(layout="several", split="held-out", count=12, names="colour")
    words = tiny.encode_text([f"a photo of a {name}." for name in scenes.classes])
    right = []
    for sample in map(scenes.read, range(len(scenes))):
        found = tiny.encode_regions(sample.image, torch.from_numpy(sample.masks), size=96) @ words.T
        right += (found.argmax(1).numpy() == sample.labels).tolist()
    assert len(right) > 30
    assert np.mean(right) > 0.8
