"""Exports as programs of `torch.export`, which run without the model's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import SimpleTokenizer
from torch import Tensor
from vfmerge_adapters.exports import tracing
from vfmerge_adapters.exports.graphs import graphs
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.timm import Timm

from vfmerge import config, export
from vfmerge.errors import InputError
from vfmerge.model import MergedModel, load

SIDE = 32
VISION = {"image_size": SIDE, "layers": 1, "width": 48, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 16, "width": 32, "heads": 2, "layers": 1}
CLIP = {"model_cfg": {"embed_dim": 24, "text_cfg": TEXT, "vision_cfg": VISION}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge of random weights: a CLIP with its own head, and another that learnt on its trunk, at another size."""
    adapters = {"clip": OpenCLIP(config=CLIP), "other": OpenCLIP(config=CLIP, layers=1, size=48)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MergedModel(adapters, base="clip")
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "merged", names=dict.fromkeys(adapters, "open_clip"), texts={})
    return folder


@pytest.fixture(scope="module")
def programs(run: Path) -> dict[str, Any]:
    """Its programs by name, loaded."""
    export.export(run, kind="torch", out=run / "programs")
    return {path.stem: torch.export.load(path).module() for path in (run / "programs").glob("*.pt2")}


def call(program: Any, *given: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        answer = program(*given)
    return answer if isinstance(answer, tuple) else (answer,)


@pytest.mark.parametrize("count", [1, 5])
def test_programs_are_the_capabilities(count: int, programs: dict[str, Any], run: Path) -> None:
    """However many pictures and texts: what a person gets from `model.clip` and `model.other`, from the files alone."""
    model = load(run / "merged")
    for task, side in (("clip", SIDE), ("other", 48)):
        pictures = [np.random.default_rng(n).integers(0, 256, (side, side, 3), dtype=np.uint8) for n in range(count)]
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        found = call(programs[f"{task}_head_{side}"], *call(programs[f"encoder_{side}"], images))
        assert torch.allclose(found[0], getattr(model, task).encode_image(pictures), atol=1e-5)
        if task == "other":
            assert torch.allclose(found[1], model.other.encode_cells(pictures), atol=1e-5)
        texts = [f"{number} red stars" for number in range(count)]
        (words,) = call(programs[f"{task}_text"], SimpleTokenizer(context_length=16)(texts))
        assert torch.allclose(words, getattr(model, task).encode_text(texts), atol=1e-5)


def test_each_head_at_each_size_that_it_can_have(programs: dict[str, Any]) -> None:
    """A learnt head is there beside every encoder, so that one pass serves all; a CLIP's own at its own size alone."""
    assert set(programs) == {
        *("encoder_32", "encoder_48", "clip_head_32", "other_head_32", "other_head_48", "clip_text", "other_text")
    }


def test_a_head_does_not_carry_the_text_tower(run: Path) -> None:
    """Its file is the smaller by the words, which are most of a small CLIP."""
    sizes = {path.stem: path.stat().st_size for path in (run / "programs").glob("*.pt2")}
    assert sizes["other_head_48"] < sizes["other_text"] / 10


def test_tracing_leaves_no_trace(run: Path) -> None:
    """Neither torch's random state nor its way to attend is another afterwards; the model keeps its text tower."""
    model = load(run / "merged")
    before = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled(), list(model.state_dict())
    head = next(each for each in graphs(model, made=config.read(run / "merged")) if each.name == "clip_head_32")
    tracing.trace(head)
    after = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled(), list(model.state_dict())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_model_of_features_has_no_graphs(tmp_path: Path) -> None:
    """A model that neither segments nor knows texts is refused in one line."""
    adapter = Timm(model="test_vit", random=True)
    MergedModel({"eye": adapter}, base="eye").save(tmp_path / "merged", names={"eye": "timm"}, texts={})
    with pytest.raises(InputError, match=r"^--to torch: no task of this model has a mask decoder or a text tower"):
        export.export(tmp_path, kind="torch", out=tmp_path / "programs")
