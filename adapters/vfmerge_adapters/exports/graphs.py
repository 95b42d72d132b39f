"""A merged model cut into graphs: encoder, neck, mask decoders, text-aligned heads, text towers.

Pictures are encoded once and prompted many times. Every batch, number of prompts and of points is free; every side in
pixels is fixed: there is one encoder for each side that a task looks at, and for each one head of each CLIP, so that
text and masks can share a pass.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vfmerge.adapter import BaseAdapter
from vfmerge.config import Config as Made
from vfmerge.model import MergedModel

from ..promptable.head import PromptedHead
from ..text_aligned.aligned import TextAligned
from ..text_aligned.head import ClipHead
from ..transformers_clip.text import TextTower
from .clip_folder import config_of
from .parts import Aligned, Decoder, Encoder, Neck, Refiner, Texts

INDEX = "graphs.json"
Axes = Mapping[int, str]
"""Which axes of a tensor are free, and what they count."""
_PROMPTS: Axes = {0: "prompts", 1: "points"}
_PROMPT = (
    "coords: x, y in pixels of the encoder's square; labels: 1 inside, 0 outside, 2 and 3 a box's corners, -1 none; "
    "owner: the image of each"
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """One module with examples of what it takes. about: one line for people.

    inputs: example tensors by name, with two or more along each free axis. free: the free axes of each. outputs: names.
    """

    name: str
    about: str
    module: nn.Module
    inputs: dict[str, Tensor]
    free: dict[str, Axes]
    outputs: tuple[str, ...]


@torch.no_grad()
def graphs(model: MergedModel, *, made: Made) -> Iterator[Graph]:
    """All graphs of a model, in the order in which they are run: a CLIP's text tower by itself."""
    lender = model.adapters[model.base]
    assert isinstance(lender, BaseAdapter)
    maps = len(lender.features.channels)
    for side in sides(model):
        encoder = Encoder(model.trunk)
        images = torch.rand(2, 3, *side, generator=torch.Generator().manual_seed(0))
        seen = encoder(images)
        names = [f"map_{number}" for number in range(maps)] + ["summary"]
        features = dict(zip(names, seen, strict=False))
        yield Graph(
            name=f"encoder_{_word(side)}",
            about=f"images of {side[0]} x {side[1]}, RGB in 0..1, to features",
            module=encoder,
            inputs={"images": images},
            free={"images": {0: "images"}},
            outputs=tuple(features),
        )
        for task, head in model.heads.items():
            if isinstance(head, PromptedHead) and _side(head) == side:
                yield from _prompted(task, head, features, maps=maps)
            elif isinstance(head, TextAligned) and (isinstance(head, ClipHead) or head.size == side):
                yield _aligned(f"{task}_head_{_word(side)}", head, features, maps=maps)
    for task, head in model.heads.items():
        if isinstance(head, TextAligned):
            yield _texts(f"{task}_text", head, length=_context(model, task, made=made))


def sides(model: MergedModel) -> list[tuple[int, int]]:
    """Height and width of what the tasks look at, each once, the largest first."""
    found = {_side(head) for head in model.heads.values() if isinstance(head, PromptedHead | TextAligned)}
    return sorted(found, reverse=True)


def size_of(head: PromptedHead | TextAligned) -> str:
    """What names of graphs say of the size at which a head looks by default."""
    return _word(_side(head))


def write_index(folder: Path, made: Sequence[Graph], *, suffix: str) -> None:
    """A file that says what each graph takes and gives."""

    def shape(graph: Graph, name: str) -> dict[str, Any]:
        tensor, free = graph.inputs[name], graph.free[name]
        return {
            "type": str(tensor.dtype).removeprefix("torch."),
            "shape": [free.get(axis, length) for axis, length in enumerate(tensor.shape)],
        }

    described = {
        graph.name + suffix: {
            "about": graph.about,
            "inputs": {name: shape(graph, name) for name in graph.inputs},
            "outputs": list(graph.outputs),
        }
        for graph in made
    }
    (folder / INDEX).write_text(json.dumps(described, indent=2) + "\n")


def _prompted(task: str, head: PromptedHead, features: dict[str, Tensor], *, maps: int) -> Iterator[Graph]:
    neck = Neck(head, maps=maps)
    embedded = {f"embedding_{number}": each for number, each in enumerate(neck(*features.values()))}
    side = 4 * list(embedded.values())[-1].shape[-1]
    yield Graph(
        name=f"{task}_neck",
        about="features to what masks are decoded from: once for each image",
        module=neck,
        inputs=features,
        free={name: {0: "images"} for name in features},
        outputs=tuple(embedded),
    )
    prompts = {
        "coords": torch.tensor([[[10.0, 12.0], [30.0, 40.0]], [[5.0, 5.0], [0.0, 0.0]], [[9.0, 9.0], [8.0, 30.0]]]),
        "labels": torch.tensor([[2, 3], [1, -1], [1, 0]]),
        "owner": torch.tensor([0, 1, 1]),
    }
    free: dict[str, Axes] = {"coords": _PROMPTS, "labels": _PROMPTS, "owner": {0: "prompts"}}
    images: dict[str, Axes] = {name: {0: "images"} for name in embedded}
    yield Graph(
        name=f"{task}_decoder",
        about=f"prompts to mask logits and scores, the single mask first; {_PROMPT}",
        module=Decoder(head),
        inputs=prompts | embedded,
        free=free | images,
        outputs=("logits", "scores"),
    )
    yield Graph(
        name=f"{task}_decoder_masks",
        about=f"the same of prompts with rough masks, logits over the encoder's whole square; {_PROMPT}",
        module=Refiner(head),
        inputs=prompts | {"masks": torch.zeros(3, 1, side, side)} | embedded,
        free=free | {"masks": {0: "prompts"}} | images,
        outputs=("logits", "scores"),
    )


def _aligned(name: str, head: TextAligned, features: dict[str, Tensor], *, maps: int) -> Graph:
    cells = isinstance(head, ClipHead)
    return Graph(
        name=name,
        about="features to unit embeddings of images" + (" and of their cells" if cells else ""),
        module=Aligned(head, maps=maps),
        inputs=features,
        free={name: {0: "images"} for name in features},
        outputs=("embeddings", "cells") if cells else ("embeddings",),
    )


def _texts(name: str, head: TextAligned, *, length: int) -> Graph:
    tokens = torch.arange(1, 1 + 2 * length).view(2, length)
    return Graph(
        name=name,
        about="tokens of the CLIP's own tokenizer, padded to this length, to unit embeddings of texts",
        module=Texts(head.text),
        inputs={"tokens": tokens},
        free={"tokens": {0: "texts"}},
        outputs=("embeddings",),
    )


def _context(model: MergedModel, task: str, *, made: Made) -> int:
    """How many tokens a text has."""
    text = model.heads[task].text
    if isinstance(text, TextTower):
        length: int = text.model.config.max_position_embeddings
        return length
    return int(config_of(made, task).model_cfg.text_cfg.get("context_length", 77))  # open_clip's own default


def _side(head: PromptedHead | TextAligned) -> tuple[int, int]:
    return (head.side, head.side) if isinstance(head, PromptedHead) else head.size


def _word(side: tuple[int, int]) -> str:
    return str(side[0]) if side[0] == side[1] else f"{side[0]}x{side[1]}"
