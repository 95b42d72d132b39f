"""Exports as programs of `torch.export`, which run without the model's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import SimpleTokenizer
from torch import Tensor, nn
from vfmerge_adapters.clip2sam import CLIP2SAM
from vfmerge_adapters.exports import graph_proof, tracing
from vfmerge_adapters.exports.graph import Graph
from vfmerge_adapters.exports.graphs import graphs, tasks
from vfmerge_adapters.exports.torch_programs import TorchPrograms
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.timm import Timm

from vfmerge import config, export
from vfmerge.model import MergedModel, load

SIDE = 32
VISION = {"image_size": SIDE, "layers": 1, "width": 48, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 16, "width": 32, "heads": 2, "layers": 1}
CLIP: dict[str, Any] = {"model_cfg": {"embed_dim": 24, "text_cfg": TEXT, "vision_cfg": VISION}}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}
SMALL = {
    "depth": 1,
    "width": 32,
    "heads": 2,
    "global_blocks": [],
    "decoder_width": 32,
    "decoder_mlp": 32,
    "decoder_heads": 2,
}
MADE = config.Config(base="eye", parents={})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge of random weights: a CLIP with its own head, and features learnt on its trunk, at another size."""
    adapters = {"clip": OpenCLIP(config=CLIP), "eye": Timm(model="test_vit", random=True, size=48)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MergedModel(adapters, base="clip")
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "merged", names={"clip": "open_clip", "eye": "timm"}, texts={})
    return folder


@pytest.fixture(scope="module")
def programs(run: Path) -> dict[str, Any]:
    """Its programs by name, loaded."""
    export.export(run, kind="torch", out=run / "programs")
    return {path.stem: torch.export.load(path).module() for path in (run / "programs").glob("*.pt2")}


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> TorchPrograms:
    """Of names upon a SAM and a convolutional CLIP, whose pyramid has several levels; of random weights."""
    clip = OpenCLIP(config={"model_cfg": CLIP["model_cfg"] | {"embed_dim": 32, "vision_cfg": RESNET}})
    sam = SAM(variant="tiny", random=True, learn="features", geometry=SMALL)
    adapters = {"clip": clip, "sam": sam, "things": CLIP2SAM(templates="plain", use_label_token=True)}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = MergedModel(adapters, base="clip").eval().requires_grad_(False)
        model.heads["things"].decoder.hypernetwork.layers[-1].weight *= 30  # else all logits are nearly 0
    folder = tmp_path_factory.mktemp("recogniser")
    model.save(folder / "merged", names={"clip": "open_clip", "sam": "sam", "things": "clip2sam"}, texts={})
    return TorchPrograms(model, made=config.read(folder / "merged"), task="clip")


def call(program: Any, *given: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        answer = program(*given)
    return answer if isinstance(answer, tuple) else (answer,)


def cut(exporter: TorchPrograms, name: str) -> Graph:
    """One of the graphs that it would write."""
    (found,) = [each for each in graphs(exporter.model, tasks(exporter.model, made=exporter.made)) if each.name == name]
    return found


@pytest.mark.parametrize("count", [1, 5])
def test_programs_are_the_capabilities(count: int, programs: dict[str, Any], run: Path) -> None:
    """However many pictures and texts: what a person gets from `model.clip` and `model.eye`, from the files alone."""
    model = load(run / "merged")
    for task, side in (("clip", SIDE), ("eye", 48)):
        pictures = [np.random.default_rng(n).integers(0, 256, (side, side, 3), dtype=np.uint8) for n in range(count)]
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        found = call(programs[f"{task}_head_{side}"], *call(programs[f"encoder_{side}"], images))
        assert torch.allclose(found[-1], getattr(model, task).encode_image(pictures), atol=1e-5)
        if task == "eye":
            assert torch.allclose(found[0], model.eye.encode_cells(pictures), atol=1e-5)
    texts = [f"{number} red stars" for number in range(count)]
    (words,) = call(programs["clip_text"], SimpleTokenizer(context_length=16)(texts))
    assert torch.allclose(words, model.clip.encode_text(texts), atol=1e-5)


def test_each_head_at_each_size_that_it_can_have(programs: dict[str, Any]) -> None:
    """A learnt head is there beside every encoder, so that one pass serves all; a CLIP's own at its own size alone."""
    assert set(programs) == {
        *("encoder_32", "encoder_48", "clip_head_32", "eye_head_32", "eye_head_48", "clip_text"),
    }


def test_a_head_does_not_carry_the_text_tower(programs: dict[str, Any], run: Path) -> None:
    """Its file is the smaller by the words, which are most of a small CLIP."""
    sizes = {path.stem: path.stat().st_size for path in (run / "programs").glob("*.pt2")}
    assert sizes["clip_head_32"] < sizes["clip_text"] / 10


def test_tracing_leaves_no_trace(recogniser: TorchPrograms) -> None:
    """Neither torch's random state nor its way to attend is another afterwards; the model keeps its text tower."""
    before = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled(), list(recogniser.model.state_dict())
    tracing.trace(cut(recogniser, "clip_head_64"))
    after = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled(), list(recogniser.model.state_dict())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_regions_of_any_number_of_things(recogniser: TorchPrograms) -> None:
    """Traced with three things in two images; of one, all from one level of the pyramid, and of nine in five images."""
    graph = cut(recogniser, "things_regions")
    program = tracing.trace(graph)
    assert recogniser.remark(program).startswith("import torchvision")
    draw = torch.Generator().manual_seed(0)
    for images, count in ((1, 1), (3, 2), (5, 9)):
        near, sides = 64 * torch.rand(2, count, 2, generator=draw)
        given = {name: torch.randn(images, *each.shape[1:], generator=draw) for name, each in graph.inputs.items()}
        given |= {
            "boxes": torch.cat([near, near + sides], dim=1),
            "owner": torch.arange(count) % images,
            "tokens": torch.randn(count, *graph.inputs["tokens"].shape[1:], generator=draw),
            "masks": torch.randn(count, *graph.inputs["masks"].shape[1:], generator=draw),
        }
        found, wanted = (call(each, *given.values()) for each in (program.module(), graph.module))
        for ours, theirs in zip(found, wanted, strict=True):
            assert torch.allclose(ours.float(), theirs.float(), atol=1e-5)


def test_the_proof_is_against_the_capabilities(recogniser: TorchPrograms) -> None:
    """A box and a point: what the graphs' modules say is what a person gets from `model.things`."""
    made = tasks(recogniser.model, made=recogniser.made)
    modules = {each.name: graph_proof.eager(each.module) for each in graphs(recogniser.model, made)}
    shown = export.pictures()[:2]
    said = graph_proof.answers(made, lambda name, given: modules[name](given), shown)
    own = graph_proof.own_answers(made, shown)
    kinds = [f"{what} of a {prompt}" for what in ("mask logits", "names") for prompt in ("box", "point")]
    assert {f"things: {kind} in picture 0, alone" for kind in kinds} <= set(own)
    assert {"clip: embeddings, alone", "clip: texts, alone", "sam: scores of a box, alone"} <= set(own)
    assert {f"things: {kind} in picture 1" for kind in kinds} <= set(said)
    assert all(each.small for each in export.compare(own, {name: said[name] for name in own}, tolerance=1e-4))
    assert own["things: names of a box in picture 0, alone"].std() > 1e-3


def test_the_proof_finds_another_models_names(recogniser: TorchPrograms) -> None:
    """A graph whose label branch differs by a little names things otherwise, and that is seen."""
    made = tasks(recogniser.model, made=recogniser.made)
    modules = {each.name: graph_proof.eager(each.module) for each in graphs(recogniser.model, made)}

    def wrong(name: str, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        first, *others = modules[name](given)
        return (first + 0.1 * first.roll(1, -1) if name == "things_regions" else first), *others

    shown = export.pictures()[:2]
    own, said = graph_proof.own_answers(made, shown), graph_proof.answers(made, wrong, shown)
    far = [
        each.answer
        for each in export.compare(own, {name: said[name] for name in own}, tolerance=1e-4)
        if not each.small
    ]
    assert "things: names of a point in picture 0, alone" in far
    assert not any("mask logits" in name for name in far)


class Unknown(Timm):
    """One whose head is of no kind that has graphs."""

    def own_head(self) -> nn.Module:
        return nn.Identity()


def test_a_model_without_graphs_is_refused() -> None:
    """In one line; a task that has none beside others that have is named where it is said how the others are used."""
    unknown = Unknown(model="test_vit", random=True)
    alone = MergedModel({"eye": unknown}, base="eye")
    assert str(TorchPrograms(alone, made=MADE, task="eye").refusal()).startswith("no head of this model is of a kind")
    beside = MergedModel({"eye": unknown, "other": Timm(model="test_vit", random=True)}, base="eye")
    exporter = TorchPrograms(beside, made=MADE, task="eye")
    assert exporter.refusal() is None
    assert exporter.left_out == "\n# no graphs of eye: heads of other kinds"
