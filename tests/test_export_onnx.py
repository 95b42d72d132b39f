"""Exports as ONNX graphs: what onnxruntime makes of them stands in for the model's own code."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip import SimpleTokenizer
from torch import Tensor
from torch.onnx._internal.exporter._registration import ONNXRegistry
from vfmerge_adapters.clip2sam import CLIP2SAM
from vfmerge_adapters.exports import graph_index, onnx_graphs
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.promptable.prompts import Prompts
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.timm import Timm

from vfmerge import export
from vfmerge.adapter import Features
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.data.shapes import SHAPES
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.model import MergedModel, load
from vfmerge.store import Store

SIDE = 96  # of the tiny SAM's input
SMALL = {"depth": 1, "width": 32, "heads": 2, "global_blocks": [], "decoder_width": 16, "decoder_mlp": 32}
TEXT = {"context_length": 32, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": SIDE, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}  # of the CLIP that teaches
CLIP = {"model_cfg": {"embed_dim": 24, "text_cfg": TEXT, "vision_cfg": VISION}}
_LARGE = 1 << 20  # bytes: of the graphs here, the text tower alone is larger
NAMES = {
    *("encoder_96", "sam_neck", "sam_decoder", "sam_decoder_masks", "clip_head_96", "clip_text", "eye_head_96"),
    *("things_pyramid", "things_decoder", "things_regions", "things_names", "things_stability"),
}
CLASSES = ("star", "ring", "square")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge of random weights: a SAM whose logits are spread wide, a CLIP, features, and names for masks."""
    adapters = {
        "sam": SAM(variant="tiny", random=True, geometry=SMALL),
        "clip": OpenCLIP(config=CLIP, layers=1),
        "eye": Timm(model="test_vit", random=True, size=SIDE),
        "things": CLIP2SAM(templates="plain"),
    }
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model = MergedModel(adapters, base="sam")
        for mlp in (
            *model.heads["sam"].mask_decoder.output_hypernetworks_mlps,
            model.heads["things"].decoder.hypernetwork,
        ):
            mlp.layers[-1].weight *= 30
    folder = tmp_path_factory.mktemp("run")
    names = {"sam": "sam", "clip": "open_clip", "eye": "timm", "things": "clip2sam"}
    model.save(folder / "merged", names=names, texts={})
    return folder


@pytest.fixture(scope="module")
def onnx(run: Path) -> Path:
    """The merge as ONNX graphs."""
    pytest.importorskip("onnxruntime", reason="needs vfmerge[export]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graphs, "_IN_ONE_FILE", _LARGE)
        known = functools.cache(ONNXRegistry.from_torchlib)  # else torch reads the same operators anew for each graph
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(known))
        export.export(run, kind="onnx", out=run / "onnx")
    return run / "onnx"


class Sessions:
    """onnxruntime's graphs by name; `stand_in` puts them in the place of a merged model's trunk and heads."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self.used: list[str] = []
        self.open = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
            for name in NAMES
        }

    def __call__(self, name: str, *given: Tensor) -> tuple[Tensor, ...]:
        self.used.append(name)
        session = self.open[name]
        fed = {each.name: tensor.numpy() for each, tensor in zip(session.get_inputs(), given, strict=True)}
        return tuple(torch.from_numpy(each) for each in session.run(None, fed))

    def stand_in(self, model: MergedModel) -> None:
        """Its capabilities do not notice."""
        model.trunk.forward = self.encode
        model.heads["sam"].embed = lambda features: self("sam_neck", *features.maps)
        model.heads["sam"].decode = self.decode
        model.heads["clip"].cells = lambda trunk, images: self("clip_head_96", *self.encode(images).maps)[1]

    def encode(self, images: Tensor) -> Features:
        return Features(maps=self(f"encoder_{images.shape[-1]}", images))

    def decode(self, maps: tuple[Tensor, ...], prompts: Any, frame: tuple[int, int]) -> tuple[Tensor, ...]:
        assert frame == (SIDE, SIDE)
        given = (prompts.coords, prompts.labels, prompts.owner)
        if prompts.masks is None:
            return self("sam_decoder", *given, *maps)
        return self("sam_decoder_masks", *given, prompts.masks, *maps)


@pytest.fixture(scope="module")
def sessions(onnx: Path) -> Sessions:
    return Sessions(onnx)


def images(count: int) -> tuple[list[np.ndarray], Tensor]:
    """Pictures of the very size that is looked at, and the same as the encoder takes them."""
    source = Shapes(layout="several", count=count, size=SIDE)
    pictures = [source.read(number).image for number in range(count)]
    return pictures, torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255


def test_the_label_map_of_onnx(sessions: Sessions, run: Path) -> None:
    """Labelling by two heads, all of it computed by onnxruntime, gives the same class in 99.9 % of pixels."""
    model, other = load(run / "merged"), load(run / "merged")
    sessions.stand_in(other)
    benchmark = ZeroShotSegmentation(size=SIDE, two_head_size=SIDE, templates="plain", threshold=0.0)
    labels = [
        benchmark.labeller(each.capabilities(), SHAPES, store=Store()).label(images(1)[0][0], name="x")
        for each in (model, other)
    ]
    assert {"encoder_96", "clip_head_96", "sam_neck", "sam_decoder_masks"} <= set(sessions.used)
    assert (labels[0] == labels[1]).mean() >= 0.999
    assert len(np.unique(labels[0])) > 1


def test_each_part_has_a_file(onnx: Path) -> None:
    """Encoder, neck, decoders, head and text tower; the index says of each what it takes, and which axes are free."""
    index = json.loads((onnx / graph_index.INDEX).read_text())
    assert {name.removesuffix(".onnx") for name in index} == NAMES
    assert all((onnx / name).is_file() for name in index)
    assert index["sam_decoder.onnx"]["inputs"]["coords"] == {"type": "float32", "shape": ["prompts", "points", 2]}
    assert index["sam_decoder.onnx"]["inputs"]["embedding_0"]["shape"] == ["images", 16, 12, 12]
    assert index["sam_decoder.onnx"]["outputs"]["logits"]["shape"] == ["prompts", 4, 48, 48]
    assert index["clip_head_96.onnx"]["outputs"].keys() == {"embeddings", "cells"}
    assert index["things_names.onnx"]["outputs"]["scores"] == {"type": "float64", "shape": ["prompts", "classes"]}


def test_onnxruntime_reads_the_axes_of_the_index(onnx: Path, sessions: Sessions) -> None:
    """What is free, and what it is called, stands in the very graphs, for programs that never see the index."""
    index = json.loads((onnx / graph_index.INDEX).read_text())
    for name, session in sessions.open.items():
        said = index[f"{name}.onnx"]
        assert {each.name: each.shape for each in session.get_inputs()} == shapes(said["inputs"])
        assert {each.name: each.shape for each in session.get_outputs()} == shapes(said["outputs"])


def shapes(said: dict[str, Any]) -> dict[str, list[int | str]]:
    return {name: each["shape"] for name, each in said.items()}


def test_onnx_is_the_capabilities(sessions: Sessions, run: Path) -> None:
    """One picture, one text and any number of boxes: what a person gets from `model.clip` and `model.sam`."""
    model, other = load(run / "merged"), load(run / "merged")
    sessions.stand_in(other)
    (picture,), image = images(1)
    embedding, _ = sessions("clip_head_96", *sessions("encoder_96", image))
    assert torch.allclose(embedding, model.clip.encode_image([picture]), atol=1e-4)
    (words,) = sessions("clip_text", SimpleTokenizer(context_length=32)(["a red star."]))
    assert torch.allclose(words, model.clip.encode_text(["a red star."]), atol=1e-4)
    for count in (1, 4):
        boxes = torch.tensor([[10.0, 20.0, 70.0, 60.0]]) + torch.arange(count)[:, None]
        ours, theirs = (each.sam.set_image(picture).predict(boxes=boxes) for each in (model, other))
        assert torch.allclose(ours[0], theirs[0], atol=1e-3)
        assert torch.allclose(ours[1], theirs[1], atol=1e-3)
        assert ours[0].std() > 0.1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_images(count: int, sessions: Sessions, run: Path) -> None:
    """Features, and the heads' answers to them, are the model's own for every batch."""
    model = load(run / "merged")
    pictures, given = images(count)
    seen = sessions("encoder_96", given)
    assert torch.allclose(seen[0], model.trunk(given).maps[0], atol=1e-4)
    cells, summary = sessions("eye_head_96", *seen)
    assert torch.allclose(cells, model.eye.encode_cells(pictures), atol=1e-4)
    assert torch.allclose(summary, model.eye.encode_image(pictures), atol=1e-4)
    assert torch.allclose(sessions("clip_head_96", *seen)[0], model.clip.encode_image(pictures), atol=1e-4)


@pytest.mark.parametrize(("count", "points"), [(1, 1), (7, 3)])
def test_any_number_of_prompts_and_points(count: int, points: int, sessions: Sessions, run: Path) -> None:
    """Of three images at once, the model's own masks and scores, with rough masks and without."""
    head = load(run / "merged").heads["sam"]
    draw = np.random.default_rng(count)
    coords = torch.from_numpy(draw.uniform(0, SIDE, (count, points, 2)).astype(np.float32))
    labels = torch.from_numpy(draw.integers(-1, 4, (count, points)))
    owner = torch.arange(count) % 3
    maps = sessions("sam_neck", *sessions("encoder_96", images(3)[1]))
    prompts = Prompts(owner=owner, coords=coords, labels=labels)
    with torch.no_grad():
        wanted = head.decode(maps, prompts, (SIDE, SIDE))
        better = head.decode(maps, dataclasses.replace(prompts, masks=wanted[0][:, :1]), (SIDE, SIDE))
    found = sessions("sam_decoder", coords, labels, owner, *maps)
    refined = sessions("sam_decoder_masks", coords, labels, owner, wanted[0][:, :1], *maps)
    for ours, theirs in zip((*wanted, *better), (*found, *refined), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("count", [1, 5])
def test_onnx_names_what_is_prompted(count: int, sessions: Sessions, run: Path) -> None:
    """Masks and how likely each class is, from files alone: what a person gets from `model.things`."""
    model, unseen = load(run / "merged"), CLASSES[-1:]
    (picture,), image = images(1)
    boxes = torch.tensor([[10.0, 20.0, 70.0, 60.0]]) + 2 * torch.arange(count)[:, None]
    wanted = model.things.set_image(picture).recognise(model.things.vocabulary(CLASSES, unseen=unseen), boxes=boxes)
    tokens = SimpleTokenizer(context_length=32)([f"a photo of a {name}." for name in CLASSES])
    words = sessions("clip_text", tokens)[0].unsqueeze(1)  # [T, 1, D]
    owner, seen = torch.zeros(count, dtype=torch.long), sessions("encoder_96", image)
    prompts = boxes.view(count, 2, 2), torch.tensor([[2, 3]]).expand(count, 2).contiguous(), owner
    masks, label_tokens, _ = sessions("things_decoder", *prompts, *sessions("sam_neck", *seen))
    edges = boxes + torch.tensor([0.0, 0.0, 1.0, 1.0])
    levels = sessions("things_pyramid", *seen)
    found = sessions("things_regions", edges, owner, label_tokens, masks, *levels, *seen)
    (scores,) = sessions("things_names", *found, words, torch.tensor([name not in unseen for name in CLASSES]))
    logits = F.interpolate(masks[:, None], size=(SIDE, SIDE), mode="bilinear")[:, 0]
    assert torch.allclose(scores, wanted.scores, atol=1e-4)
    assert torch.allclose(logits, wanted.logits, atol=1e-3)
    assert torch.allclose(sessions("things_stability", wanted.logits)[0], wanted.ious)
    assert scores.std() > 1e-3


def test_onnx_without_onnx(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where its libraries are not installed, one line says what to install, before anything is computed."""
    found = importlib.util.find_spec
    there = {"onnx": found("json"), "onnxruntime": found("json"), "onnxscript": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there[name] if name in there else found(name))
    with pytest.raises(InputError, match=r"^--to onnx: onnxscript not installed; run pip install 'vfmerge\[export\]'$"):
        export.export(run, kind="onnx", out=tmp_path / "onnx")


def test_large_graphs_keep_their_weights_beside_them(onnx: Path) -> None:
    """What no protobuf can hold lies in a file of its own, where onnxruntime found it; the rest in the graph's."""
    assert [path.name for path in onnx.glob("*.data")] == ["clip_text.onnx.data"]
    assert (onnx / "clip_text.onnx").stat().st_size < _LARGE < (onnx / "clip_text.onnx.data").stat().st_size
