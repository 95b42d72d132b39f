"""Exports as ONNX graphs: what onnxruntime makes of them stands in for the model's own code."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import SimpleTokenizer
from torch import Tensor
from vfmerge_adapters.exports import graphs, onnx_graphs
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

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
NAMES = {"encoder_96", "sam_neck", "sam_decoder", "sam_decoder_masks", "clip_head_96", "clip_text"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge of random weights with a SAM, whose logits are spread wide, and a CLIP."""
    adapters = {
        "sam": SAM(variant="tiny", random=True, geometry=SMALL),
        "clip": OpenCLIP(config=CLIP, layers=1),
    }
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model = MergedModel(adapters, base="sam")
        for mlp in model.heads["sam"].mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= 30
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "merged", names={"sam": "sam", "clip": "open_clip"}, texts={})
    return folder


@pytest.fixture(scope="module")
def onnx(run: Path) -> Path:
    """The merge as ONNX graphs."""
    pytest.importorskip("onnxruntime", reason="needs vfmerge[export]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graphs, "_IN_ONE_FILE", _LARGE)
        export.export(run, kind="onnx", out=run / "onnx")
    return run / "onnx"


def picture() -> np.ndarray:
    return Shapes(layout="several", count=1, size=SIDE).read(0).image


class Sessions:
    """A merged model whose trunk and heads are onnxruntime's: its capabilities do not notice."""

    def __init__(self, folder: Path, model: MergedModel) -> None:
        import onnxruntime

        self.used: list[str] = []
        self._open = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
            for name in NAMES
        }
        model.trunk.forward = self.encode
        model.heads["sam"].embed = lambda features: self("sam_neck", *features.maps)
        model.heads["sam"].decode = self.decode
        model.heads["clip"].cells = lambda trunk, images: self("clip_head_96", *self.encode(images).maps)[1]

    def __call__(self, name: str, *given: Tensor) -> tuple[Tensor, ...]:
        self.used.append(name)
        session = self._open[name]
        fed = {each.name: tensor.numpy() for each, tensor in zip(session.get_inputs(), given, strict=True)}
        return tuple(torch.from_numpy(each) for each in session.run(None, fed))

    def encode(self, images: Tensor) -> Features:
        return Features(maps=self(f"encoder_{images.shape[-1]}", images))

    def decode(self, maps: tuple[Tensor, ...], prompts: Any, frame: tuple[int, int]) -> tuple[Tensor, ...]:
        assert frame == (SIDE, SIDE)
        given = (prompts.coords, prompts.labels, prompts.owner)
        if prompts.masks is None:
            return self("sam_decoder", *given, *maps)
        return self("sam_decoder_masks", *given, prompts.masks, *maps)


def test_the_label_map_of_onnx(onnx: Path, run: Path) -> None:
    """Labelling by two heads, all of it computed by onnxruntime, gives the same class in 99.9 % of pixels."""
    model, other = load(run / "merged"), load(run / "merged")
    sessions = Sessions(onnx, other)
    benchmark = ZeroShotSegmentation(size=SIDE, two_head_size=SIDE, templates="plain", threshold=0.0)
    labels = [
        benchmark.labeller(each.capabilities(), SHAPES, store=Store()).label(picture(), name="x")
        for each in (model, other)
    ]
    assert {"encoder_96", "clip_head_96", "sam_neck", "sam_decoder_masks"} <= set(sessions.used)
    assert (labels[0] == labels[1]).mean() >= 0.999
    assert len(np.unique(labels[0])) > 1


def test_each_part_has_a_file(onnx: Path) -> None:
    """Encoder, neck, decoders, head and text tower; the index says of each what it takes, and which axes are free."""
    index = json.loads((onnx / graphs.INDEX).read_text())
    assert {name.removesuffix(".onnx") for name in index} == NAMES
    assert all((onnx / name).is_file() for name in index)
    assert index["sam_decoder.onnx"]["inputs"]["coords"] == {"type": "float32", "shape": ["prompts", "points", 2]}
    assert index["sam_decoder.onnx"]["inputs"]["embedding_0"]["shape"] == ["images", 16, 12, 12]
    assert index["clip_head_96.onnx"]["outputs"] == ["embeddings", "cells"]


def test_onnx_is_the_capabilities(onnx: Path, run: Path) -> None:
    """One picture, one text and any number of boxes: what a person gets from `model.clip` and `model.sam`."""
    model, other = load(run / "merged"), load(run / "merged")
    sessions = Sessions(onnx, other)
    image = torch.from_numpy(picture()).permute(2, 0, 1)[None] / 255  # of the very size that is looked at
    embedding, _ = sessions("clip_head_96", *sessions("encoder_96", image))
    assert torch.allclose(embedding, model.clip.encode_image([picture()]), atol=1e-4)
    (words,) = sessions("clip_text", SimpleTokenizer(context_length=32)(["a red star."]))
    assert torch.allclose(words, model.clip.encode_text(["a red star."]), atol=1e-4)
    for count in (1, 4):
        boxes = torch.tensor([[10.0, 20.0, 70.0, 60.0]]) + torch.arange(count)[:, None]
        ours, theirs = (each.sam.set_image(picture()).predict(boxes=boxes) for each in (model, other))
        assert torch.allclose(ours[0], theirs[0], atol=1e-3)
        assert torch.allclose(ours[1], theirs[1], atol=1e-3)
        assert ours[0].std() > 0.1


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
