"""The adapter of SAM 1, 2 and 3 against `transformers` itself: real classes, real file format, random weights."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3TrackerProcessor,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
)
from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor
from transformers.utils import logging as transformers_logging
from vfmerge_adapters.promptable.positions import positions
from vfmerge_adapters.promptable.prompts import simulate
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.sam.geometry import VARIANTS, build
from vfmerge_adapters.transformers_sam import TransformersSAM

import vfmerge
from vfmerge import engine, recipe
from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.errors import InputError
from vfmerge.model import MergedModel
from vfmerge.plugins import find

KINDS = ("sam", "sam2", "sam3_tracker")
SIDE = {"sam": 64, "sam2": 96, "sam3_tracker": 112}
CELLS = {"sam": 8, "sam2": 16, "sam3_tracker": 14}

transformers_logging.disable_progress_bar()


def shape(kind: str) -> dict[str, Any]:
    """The configuration of a small model."""
    side, cell = SIDE[kind], CELLS[kind]
    vision = {
        "sam": {
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": cell,
            "window_size": 3,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
        },
        "sam2": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 16,
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [16, 32, 64, 128],
                "num_attention_heads_per_stage": [1, 1, 2, 2],
                "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [3, 3],
            },
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[side // 4] * 2, [side // 8] * 2, [side // 16] * 2],
            "fpn_hidden_size": 16,
        },
        "sam3_tracker": {
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": side,
                "window_size": 3,
                "global_attn_indexes": [1],
                "pretrain_image_size": 56,
            },
            "fpn_hidden_size": 16,
            "backbone_feature_sizes": [[4 * side // cell] * 2, [2 * side // cell] * 2, [side // cell] * 2],
        },
    }[kind]
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    prompts = {"hidden_size": 16, "image_size": side, "patch_size": cell, "mask_input_channels": 8}
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}


def shaken(model: nn.Module) -> nn.Module:
    """Random values of some size everywhere, so that no term is trivially equal."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if not name.endswith("positional_embedding"):
            spread = 0.2 if tensor.ndim < 2 else tensor[0].numel() ** -0.5
            tensor += torch.randn(tensor.shape, generator=generator) * spread
    return model.eval()


@functools.cache
def original(kind: str) -> nn.Module:
    torch.manual_seed(0)
    config, model = {
        "sam": (SamConfig, SamModel),
        "sam2": (Sam2Config, Sam2Model),
        "sam3_tracker": (Sam3TrackerConfig, Sam3TrackerModel),
    }[kind]
    return shaken(model(config(**shape(kind))))


@functools.cache
def processor(kind: str) -> Any:
    """The library's own, at the model's size."""
    side = SIDE[kind]
    square = {"height": side, "width": side}
    if kind == "sam":
        return SamProcessor(SamImageProcessor(size={"longest_edge": side}, pad_size=square))
    if kind == "sam2":
        return Sam2Processor(Sam2ImageProcessor(size=square))
    return Sam3TrackerProcessor(Sam3ImageProcessor(size=square))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each small model as `save_pretrained` writes it."""
    base = tmp_path_factory.mktemp("parents")
    for kind in KINDS:
        original(kind).save_pretrained(base / kind)
    return {kind: base / kind for kind in KINDS}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene_batch(size: int) -> Batch:
    """Three images with two, none and one mask."""
    masks = torch.zeros(3, 96, 96, dtype=torch.bool)
    masks[0, 10:40, 20:70], masks[1, 50:60, 5:9], masks[2, 30:90, 30:90] = True, True, True
    return Batch(
        images=torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1)),
        keys=(11, 12, 13),
        names=("a", "b", "c"),
        masks=masks,
        owner=torch.tensor([0, 0, 2]),
    )


def close(ours: Tensor, theirs: Tensor) -> None:
    """Equal to 1e-5 of the largest value, which is no trifle."""
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 0.05
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


PROMPTS = {
    "boxes": {"input_boxes": [[[10.0, 12.0, 60.0, 40.0], [5.0, 5.0, 79.0, 49.0]]]},
    "points": {
        "input_points": [[[[30.0, 20.0], [70.0, 45.0]], [[8.0, 9.0], [50.0, 11.0]]]],
        "input_labels": [[[1, 0], [1, 1]]],
    },
}
PROMPTS["both"] = PROMPTS["boxes"] | PROMPTS["points"]


def theirs_of(kind: str, image: np.ndarray, given: dict[str, Any], *, multimask: bool) -> tuple[Tensor, Tensor]:
    """What the library's processor and model make of a picture and prompts: logits at its size, and scores."""
    rough = {name: given[name] for name in given if name == "input_masks"}
    inputs = processor(kind)(image, return_tensors="pt", **{name: given[name] for name in given if name not in rough})
    sizes = {name: inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in inputs}
    inputs = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        output = original(kind)(**inputs, **rough, multimask_output=multimask)
    square = {"pad_size": {"height": SIDE[kind], "width": SIDE[kind]}} if kind == "sam" else {}
    enlarge = processor(kind).image_processor.post_process_masks
    return enlarge(output.pred_masks, binarize=False, **sizes, **square)[0], output.iou_scores[0]


@pytest.mark.parametrize("prompt", [*PROMPTS, "mask"])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_and_scores_are_the_librarys(folders: dict[str, Path], kind: str, prompt: str) -> None:
    """A saved model through the adapter's capability gives the library's masks and scores, whatever the prompt."""
    image, given = picture(50, 80), dict(PROMPTS.get(prompt, PROMPTS["boxes"]))
    ours = {name.removeprefix("input_"): torch.tensor(value[0]) for name, value in given.items()}
    if prompt == "mask":
        side = 4 * SIDE[kind] // CELLS[kind]
        rough = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(2))
        given["input_masks"], ours["masks"] = rough, rough.expand(2, -1, -1, -1)
    adapter = TransformersSAM(model=str(folders[kind]))
    encoded = adapter.capability(adapter.teacher()).set_image(image)
    for multimask in (True, False):
        logits, scores = theirs_of(kind, image, given, multimask=multimask)
        answer = encoded.predict(**ours, multimask=multimask)
        close(answer[0], logits)
        close(answer[1], scores)


def test_the_same_weights_in_segment_anything_give_the_same_masks(tmp_path: Path) -> None:
    """One SAM in the format of either library: both adapters give one answer."""
    numbers = {"width": 32, "depth": 2, "heads": 2, "global_blocks": [1], "window": 3, "image_size": 64}
    numbers |= {"decoder_width": 16, "decoder_mlp": 32, "decoder_heads": 2}
    geometry = dataclasses.replace(VARIANTS["tiny"], **numbers | {"global_blocks": (1,)})  # type: ignore[arg-type]
    sam = shaken(build(geometry))
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    places = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    twin = SamModel(SamConfig(**shape("sam")))
    twin.load_state_dict(
        {
            **_translate(sam.state_dict()),
            "shared_image_embedding.positional_embedding": places,
        }
    )
    twin.save_pretrained(tmp_path / "twin")
    image, boxes = picture(64, 64), torch.tensor([[10.0, 12.0, 60.0, 40.0]])
    answers = [
        adapter.capability(adapter.teacher()).set_image(image).predict(boxes=boxes, multimask=True)
        for adapter in (
            SAM(variant="tiny", geometry=numbers, checkpoint=str(tmp_path / "sam.pth")),
            TransformersSAM(model=str(tmp_path / "twin")),
        )
    ]
    for first, second in zip(*answers, strict=True):
        assert (first - second).abs().max() <= 1e-4 * first.abs().max()  # the decoders' epsilons differ


_WORDS = {
    r"^image_encoder\.blocks\.(\d+)\.norm": r"vision_encoder.layers.\1.layer_norm",
    r"^image_encoder\.blocks\.": "vision_encoder.layers.",
    r"^image_encoder\.neck\.0": "vision_encoder.neck.conv1",
    r"^image_encoder\.neck\.1": "vision_encoder.neck.layer_norm1",
    r"^image_encoder\.neck\.2": "vision_encoder.neck.conv2",
    r"^image_encoder\.neck\.3": "vision_encoder.neck.layer_norm2",
    r"^image_encoder\.": "vision_encoder.",
    r"patch_embed\.proj\.": "patch_embed.projection.",
    r"pe_layer\.positional_encoding_gaussian_matrix": "shared_embedding.positional_embedding",
    r"point_embeddings": "point_embed",
    r"mask_downscaling\.0": "mask_embed.conv1",
    r"mask_downscaling\.1": "mask_embed.layer_norm1",
    r"mask_downscaling\.3": "mask_embed.conv2",
    r"mask_downscaling\.4": "mask_embed.layer_norm2",
    r"mask_downscaling\.6": "mask_embed.conv3",
    r"(transformer\.layers\.\d+)\.norm": r"\1.layer_norm",
    r"norm_final_attn": "layer_norm_final_attn",
    r"output_upscaling\.0": "upscale_conv1",
    r"output_upscaling\.1": "upscale_layer_norm",
    r"output_upscaling\.3": "upscale_conv2",
    r"((?:mlps\.\d|iou_prediction_head)\.)layers\.0": r"\1proj_in",
    r"((?:mlps\.\d|iou_prediction_head)\.)layers\.1": r"\1layers.0",
    r"((?:mlps\.\d|iou_prediction_head)\.)layers\.2": r"\1proj_out",
}


def _translate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of `segment_anything` by the names of `transformers`."""
    translated = {}
    for name, tensor in tensors.items():
        for old, new in _WORDS.items():
            name = re.sub(old, new, name)
        translated[name] = tensor
    return translated


@pytest.mark.parametrize("kind", KINDS)
def test_trunk_takes_any_multiple_of_its_cells(folders: dict[str, Path], kind: str) -> None:
    """Other sizes and shapes give maps of that many cells, as promised; an edge that is no whole cell is refused."""
    adapter = TransformersSAM(model=str(folders[kind]))
    spec, trunk = adapter.features, adapter.teacher().trunk
    stride = spec.strides[-1]
    for height, width in ((2 * stride, 5 * stride), (3 * stride, 3 * stride)):
        with torch.no_grad():
            maps = trunk(torch.rand(2, 3, height, width)).maps
        for each, channels, cell in zip(maps, spec.channels, spec.strides, strict=True):
            assert each.shape == (2, channels, height // cell, width // cell)
            assert torch.isfinite(each).all()
    with pytest.raises(InputError, match=f"no multiple of the {stride} pixels"):
        trunk(torch.rand(1, 3, stride, stride + 4))


@pytest.mark.parametrize(("kind", "side"), [("sam2", 160), ("sam2", 64), ("sam3_tracker", 84), ("sam3_tracker", 140)])
def test_at_another_size_the_trunk_is_what_the_library_builds_for_it(
    folders: dict[str, Path], kind: str, side: int
) -> None:
    """Where the library can be built for another size with the same weights, the features are that model's."""
    model, config = original(kind), copy.deepcopy(original(kind).config)
    backbone = config.vision_config.backbone_config
    backbone.image_size = side if kind == "sam3_tracker" else [side, side]
    twin = type(model.vision_encoder.backbone)(backbone).eval()
    twin.load_state_dict(model.vision_encoder.backbone.state_dict())
    trunk = TransformersSAM(model=str(folders[kind])).teacher().trunk
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        ours, theirs = trunk(images).maps[-1], twin((images - trunk.mean) / trunk.std).last_hidden_state
    close(ours.flatten(2).transpose(1, 2), theirs.reshape(1, -1, ours.shape[1]))


def test_sams_positions_are_interpolated(folders: dict[str, Path]) -> None:
    """At twice the size the position embedding is the original's, enlarged."""
    trunk = TransformersSAM(model=str(folders["sam"])).teacher().trunk
    small = trunk.pos_embed.permute(0, 3, 1, 2)
    back = torch.nn.functional.avg_pool2d(positions(trunk.pos_embed, 16, 16).permute(0, 3, 1, 2), 2)
    assert torch.corrcoef(torch.stack([back.flatten(), small.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_many_images_decode_as_one_by_one(folders: dict[str, Path], kind: str) -> None:
    """Boxes and points on several images in one batch give what the library gives image by image, all four masks."""
    model, batch = original(kind), scene_batch(SIDE[kind])
    network = TransformersSAM(model=str(folders[kind])).teacher()
    logits, scores = network(batch)
    prompts = simulate(batch.masks, owner=batch.owner, keys=batch.keys, frame=(SIDE[kind], SIDE[kind]))
    boxed = (prompts.labels == 2).any(1).tolist()
    assert len(set(boxed)) == 2  # both kinds of prompt
    pixels = (batch.images - network.trunk.mean) / network.trunk.std
    for row in range(3):
        coords = prompts.coords[row : row + 1]
        given = {"input_boxes": coords.view(1, 1, 4)} if boxed[row] else {}
        given |= (
            {}
            if boxed[row]
            else {"input_points": coords[:, None, :1], "input_labels": torch.ones(1, 1, 1, dtype=torch.long)}
        )
        image = pixels[batch.owner[row] : batch.owner[row] + 1]
        with torch.no_grad():
            theirs = model(pixel_values=image, **given, multimask_output=True)
        close(logits[row, 1:], theirs.pred_masks[0, 0])
        close(scores[row, 1:], theirs.iou_scores[0, 0])


def test_a_single_mask_of_sam_2_is_the_stable_one(folders: dict[str, Path]) -> None:
    """A single mask whose area hangs on the threshold gives way to the best believed of the other three."""
    head = TransformersSAM(model=str(folders["sam2"])).teacher().head
    logits = torch.full((2, 4, 8, 8), -1.0)
    logits[0, 0, :4], logits[1, 0, :4], logits[1, 0, 4:] = 1.0, 1.0, 0.01
    logits[:, 2] = 3.0
    masks, scores = head.single(logits, torch.tensor([[0.1, 0.2, 0.9, 0.3]] * 2))
    assert torch.equal(masks[0, 0], logits[0, 0])
    assert torch.equal(masks[1, 0], logits[1, 2])
    assert scores.flatten().tolist() == pytest.approx([0.1, 0.9])


TRUNKS = {
    "plain": FeatureSpec(channels=(48,), strides=(16,)),
    "pyramid": FeatureSpec(channels=(8, 24, 40, 48), strides=(4, 8, 16, 32)),
    "summary at 14": FeatureSpec(channels=(48,), strides=(14,), summary=48),
    "one size": FeatureSpec(channels=(48,), strides=(14,), fixed_size=70),
}


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_taught_to_another_trunk(folders: dict[str, Path], kind: str, trunk: str) -> None:
    """As an auxiliary: a neck for other maps, the parent's own decoder, masks four times as fine as the cells."""
    adapter, spec = TransformersSAM(model=str(folders[kind])), TRUNKS[trunk]
    teacher, head = adapter.teacher(), adapter.head(spec)
    adapter.start(head, nn.Identity(), teacher)
    own, new = teacher.head.state_dict(), head.state_dict()
    assert all(torch.equal(own[name], new[name]) for name in own if not name.startswith("neck."))
    side = head.side
    assert side % spec.strides[-1] == 0
    assert side == spec.fixed_size or abs(side - SIDE[kind]) <= spec.strides[-1] / 2
    maps = tuple(
        torch.rand(3, width, side // stride, side // stride)
        for width, stride in zip(spec.channels, spec.strides, strict=True)
    )
    logits, scores = head(Features(maps=maps), scene_batch(side))
    attended = 16 if kind == "sam2" or trunk == "plain" else {"sam": 8, "sam3_tracker": 16}[kind]
    attended = spec.strides[0] if len(spec.strides) == 1 else attended
    assert logits.shape == (3, 4, 4 * (side // attended), 4 * (side // attended))
    assert scores.shape == (3, 4)
    (logits.mean() + scores.mean()).backward()
    assert all(parameter.grad is not None for parameter in head.neck.parameters())


_OTHERS = {
    "clip": "{adapter: open_clip, options: {model: tiny, layers: 1}}",
    "outline": "{adapter: sam, options: {variant: tiny}}",
}


def small_recipe(
    file: Path, *, folder: Path, base: str, other: str, size: int, teach: int | None = None
) -> recipe.Recipe:
    """Two steps of the SAM in a folder with another parent, on the shapes world."""
    fit = {"clip": "crop", "outline": "pad, masks: 2"}[other]
    file.write_text(f"""\
base: {base}
parents:
  sam: {{adapter: transformers_sam, options: {{model: {folder}, size: {teach or "null"}}}}}
  {other}: {_OTHERS[other]}
data:
  pictures: {{kind: shapes, layout: several, count: 8, size: 48}}
  held_out: {{kind: shapes, layout: several, split: held-out, count: 1, size: 48}}
stages:
  distill:
    steps: 2
    train: {{trunk: 1e-4, heads.sam: 1e-4, heads.{other}: 1e-4}}
    streams:
      - {{data: pictures, size: {size}, batch: 2, fit: {fit}, tasks: {{{other}: 1}}}}
      - {{data: pictures, size: {size}, batch: 2, fit: pad, masks: 2, tasks: {{sam: 10}}}}
evaluate:
  prompts: {{benchmark: promptable, data: held_out}}
""")
    return recipe.load(str(file))


@pytest.fixture
def overheard() -> Iterator[list[str]]:
    """What `transformers` tells its users."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_on_its_trunk_runs_and_needs_no_parent_afterwards(
    folders: dict[str, Path], kind: str, tmp_path: Path, overheard: list[str]
) -> None:
    """Two steps on its trunk, measured; the merged folder loads with the parent's files gone, and prompts work."""
    parent, size = (
        shutil.copytree(folders[kind], tmp_path / "parent"),
        {"sam": 48, "sam2": 64, "sam3_tracker": 56}[kind],
    )
    small = small_recipe(tmp_path / "small.yaml", folder=parent, base="sam", other="clip", size=size)
    engine.run(small, tmp_path / "run", name="small")
    shutil.rmtree(parent)
    assert {row["metric"] for row in _rows(tmp_path / "run")} == {"box_miou", "point_miou"}
    model = vfmerge.load(tmp_path / "run" / "merged")
    logits, _ = model.sam.set_image(picture(40, 60)).predict(boxes=torch.tensor([[3.0, 3.0, 30.0, 30.0]]))
    assert logits.shape == (1, 1, 40, 60)
    assert overheard == []


@pytest.mark.parametrize(("kind", "teach"), [("sam2", 64), ("sam3_tracker", 56)])
def test_it_is_learnt_by_another_trunk(folders: dict[str, Path], kind: str, teach: int, tmp_path: Path) -> None:
    """Two steps on the trunk of the tiny SAM of `segment_anything`, at sizes that are none of its own cells."""
    out, parent = tmp_path / "run", folders[kind]
    file = tmp_path / "small.yaml"
    engine.run(
        small_recipe(file, folder=parent, base="outline", other="outline", size=48, teach=teach), out, name="small"
    )
    model = vfmerge.load(out / "merged")
    assert model.sam.fixed_size % 8 == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_merge_equals_its_base(folders: dict[str, Path], kind: str) -> None:
    """Before the first step the merged model gives the parent's masks and scores, bit for bit."""
    adapter = TransformersSAM(model=str(folders[kind]))
    teacher, merged = adapter.teacher(), MergedModel({"sam": adapter}, base="sam")
    merged.start({"sam": teacher})
    for given in (
        {"boxes": torch.tensor([[3.0, 3.0, 30.0, 30.0]])},
        {"points": torch.ones(1, 1, 2), "labels": torch.ones(1, 1)},
    ):
        for multimask in (True, False):
            ours = merged.sam.set_image(picture(40, 60)).predict(**given, multimask=multimask)
            theirs = adapter.capability(teacher).set_image(picture(40, 60)).predict(**given, multimask=multimask)
            assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_rehearsal_trains_all_but_the_prompt_encoder(folders: dict[str, Path], kind: str) -> None:
    """No loss against itself; another model's loss reaches the whole trunk, neck and decoder, and no frozen part."""
    adapter, batch = TransformersSAM(model=str(folders[kind]), iou=1.0), scene_batch(SIDE[kind])
    teacher = adapter.teacher()
    target = teacher(batch)
    terms = adapter.loss(target, target, batch)
    assert {name: term.shape for name, term in terms.items()} == dict.fromkeys(("focal", "dice", "iou"), (3,))
    assert all(term.abs().max() < 1e-5 for term in terms.values())
    trunk, head = shaken(adapter.trunk()), adapter.own_head()
    adapter.start(head, trunk, teacher)
    terms = adapter.loss(head(trunk(batch.images), batch), target, batch)
    sum(term.mean() for term in terms.values()).backward()
    frozen = {name for name, each in head.named_parameters() if not each.requires_grad}
    assert {name.split(".")[0] for name in frozen} <= {"prompt_encoder", "places", "mask_decoder"}
    assert all(parameter.grad is not None for parameter in trunk.parameters())
    assert {name for name, each in head.named_parameters() if each.grad is None} == frozen
    assert all(each.grad is None for each in teacher.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_masks_gives_an_empty_loss(folders: dict[str, Path], kind: str) -> None:
    """No mask in any picture: no terms to average, no error, and still something to differentiate."""
    adapter = TransformersSAM(model=str(folders[kind]))
    none = {"masks": torch.zeros(0, 96, 96, dtype=torch.bool), "owner": torch.zeros(0, dtype=torch.long)}
    batch = dataclasses.replace(scene_batch(SIDE[kind]), **none)
    trunk, head = adapter.trunk(), adapter.own_head()
    terms = adapter.loss(head(trunk(batch.images), batch), adapter.teacher()(batch), batch)
    assert terms["focal"].shape == (0,)
    terms["focal"].sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_options_make_the_same_shape_without_files(folders: dict[str, Path], kind: str) -> None:
    """What a merged model keeps is plain, gives the same options again, and builds every part on no device at all."""
    adapter = TransformersSAM(model=str(folders[kind]), size=5 * 32 * 14, licence="Apache-2.0")
    options = json.loads(json.dumps(adapter.portable()))
    again = TransformersSAM(**options)
    assert again.portable() == options
    assert (again.features, again.licence, again.sources) == (adapter.features, "Apache-2.0", ())
    with torch.device("meta"):
        shapes = MergedModel({"sam": again}, base="sam").state_dict()
        again.head(TRUNKS["plain"])
    built = MergedModel({"sam": adapter}, base="sam").state_dict()
    assert {name: each.shape for name, each in shapes.items()} == {name: each.shape for name, each in built.items()}
    assert all(each.is_meta for each in shapes.values())


def test_random_weights_are_the_same_each_time_and_disturb_nobody() -> None:
    """A dry run's parent needs no file, and draws from no one else's numbers."""
    adapter = TransformersSAM(config={"model_type": "sam2"} | shape("sam2"), random=True)
    before = torch.get_rng_state()
    first, second = adapter.teacher().state_dict(), adapter.teacher().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_video_models_files_are_taken_for_single_pictures(tmp_path: Path) -> None:
    """What Meta publishes as SAM 2 is a video model; its image encoder and decoder are read, its memory is not."""
    torch.manual_seed(0)
    parts = shape("sam2")
    small = {
        "memory_attention_hidden_size": 16,
        "memory_attention_num_layers": 1,
        "memory_attention_num_attention_heads": 1,
    }
    small |= {"memory_encoder_hidden_size": 16, "memory_fuser_embed_dim": 16, "mask_downsampler_embed_dim": 16}
    small |= {"memory_attention_feed_forward_hidden_size": 16, "memory_fuser_intermediate_dim": 16}
    video = Sam2VideoModel(Sam2VideoConfig(**parts, **small, image_size=SIDE["sam2"])).eval()
    video.save_pretrained(tmp_path / "video")
    network = TransformersSAM(model=str(tmp_path / "video")).teacher()
    assert torch.equal(network.trunk.pos_embed, video.vision_encoder.backbone.pos_embed)
    for name, tensor in video.mask_decoder.state_dict().items():
        assert torch.equal(network.head.mask_decoder.state_dict()[name], tensor)


def test_normalisation_is_what_the_files_say(folders: dict[str, Path], tmp_path: Path) -> None:
    """Mean and deviation of preprocessor_config.json go before the library's defaults, and into the merged model."""
    folder = shutil.copytree(folders["sam"], tmp_path / "parent")
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said | {"do_resize": True}))
    adapter = TransformersSAM(model=str(folder))
    for trunk in (adapter.teacher().trunk, TransformersSAM(**adapter.portable()).trunk()):
        assert trunk.mean.flatten().tolist() == pytest.approx(said["image_mean"])
        assert trunk.std.flatten().tolist() == pytest.approx(said["image_std"])


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "not a SAM": (lambda config: config.update(model_type="vit"), "'vit'"),
    "a part missing": (lambda config: config.pop("mask_decoder_config"), "mask_decoder_config"),
    "another encoder": (lambda config: config["vision_config"].update(model_type="swin"), "'swin'"),
    "a word for a number": (lambda config: config["vision_config"].update(patch_size="many"), "patch_size"),
    "widths that differ": (lambda config: config["prompt_encoder_config"].update(hidden_size=32), "wide"),
    "heads that do not divide": (lambda config: config["mask_decoder_config"].update(num_attention_heads=3), "heads"),
    "a side of broken cells": (lambda config: config["vision_config"].update(image_size=65), "no multiple of 8"),
    "another shape": (lambda config: config["vision_config"].update(num_hidden_layers=3), "missing"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_folder_that_is_no_such_sam_is_one_line(folders: dict[str, Path], what: str, tmp_path: Path) -> None:
    """What is wrong with a config or its weights names the folder and the fault, and is never a traceback."""
    folder = shutil.copytree(folders["sam"], tmp_path / "parent")
    config = json.loads((folder / "config.json").read_text())
    BROKEN[what][0](config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=BROKEN[what][1]) as error:
        TransformersSAM(model=str(folder)).teacher()
    assert str(folder) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_says_numbers_and_nothing_else(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """What could name code, a way of attention or a type of numbers is not listened to, however deep it stands."""
    folder = shutil.copytree(folders[kind], tmp_path / "parent")
    config = json.loads((folder / "config.json").read_text())
    evil = {"auto_map": {"AutoModel": "evil.Evil"}, "attn_implementation": "stranger/kernel", "output_attentions": True}
    evil |= {"_attn_implementation": "stranger/kernel", "dtype": "float16", "quantization_config": {"bits": 4}}
    for part in (
        config["vision_config"],
        config["vision_config"].get("backbone_config", {}),
        config["mask_decoder_config"],
    ):
        part |= evil
    (folder / "config.json").write_text(json.dumps(config))
    adapter, plain = TransformersSAM(model=str(folder)), TransformersSAM(model=str(folders[kind]))
    assert adapter.portable() == plain.portable()
    ours, theirs = adapter.teacher().state_dict(), plain.teacher().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in theirs)


def test_what_else_is_wrong_is_one_line(folders: dict[str, Path]) -> None:
    """Sizes that are no whole cells, colours that are none, a prompt without anything."""
    with pytest.raises(InputError, match=r"size: 65 is no multiple of the parent's 8"):
        TransformersSAM(model=str(folders["sam"]), size=65).teacher()
    config = {"model_type": "sam"} | shape("sam")
    for said in ({"image_std": [1, 0, 1]}, {"image_mean": "grey"}):
        with pytest.raises(InputError, match="image_"):
            TransformersSAM(config=config, random=True, preprocessor=said).teacher()
    adapter = TransformersSAM(model=str(folders["sam"]))
    with pytest.raises(InputError, match="give boxes"):
        adapter.capability(adapter.teacher()).set_image(picture(50, 70)).predict()


def test_making_it_imports_no_torch(folders: dict[str, Path]) -> None:
    """`ls`, and a mistyped recipe, do not wait for torch or transformers."""
    assert find("adapters", "transformers_sam") is TransformersSAM
    script = f"from vfmerge_adapters.transformers_sam import TransformersSAM as SAM; SAM(model={str(folders['sam'])!r})"
    script += "; import sys; print(sorted({'torch', 'transformers', 'torchvision'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _rows(run: Path) -> list[dict[str, Any]]:
    """The retention table of a run."""
    table = json.loads((run / "retention.json").read_text())
    rows = table["rows"] if isinstance(table, dict) else table
    assert rows
    return rows
