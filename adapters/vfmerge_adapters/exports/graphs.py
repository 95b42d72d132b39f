"""A merged model cut into graphs: the encoder, and what each task makes of its features.

Pictures are encoded once and prompted many times. Every batch, number of prompts and of points is free; every side in
pixels is fixed: there is one encoder for each side that a task looks at, and for each one head of each task that learnt
features or a CLIP's space, so that text, features and masks can share a pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from vfmerge.adapter import BaseAdapter
from vfmerge.config import Config as Made
from vfmerge.features.head import FeatureHead
from vfmerge.model import MergedModel

from ..clip2sam.head import Head as RecognitionHead
from ..promptable.head import PromptedHead
from ..text_aligned.aligned import TextAligned
from .dense_graphs import DenseGraphs
from .graph import Frame, Graph, word
from .image_text_graphs import ImageTextGraphs
from .parts import Encoder
from .promptable_graphs import PromptableGraphs
from .recognition_graphs import RecognitionGraphs
from .task_graphs import TaskGraphs

_KINDS: Mapping[type[nn.Module], type[TaskGraphs]] = {
    PromptedHead: PromptableGraphs,
    TextAligned: ImageTextGraphs,
    FeatureHead: DenseGraphs,
    RecognitionHead: RecognitionGraphs,
}


def tasks(model: MergedModel, *, made: Made) -> list[TaskGraphs]:
    """Those of a model's tasks whose heads have graphs."""
    lender = model.adapters[model.base]
    assert isinstance(lender, BaseAdapter)
    maps = len(lender.features.channels)
    kinds = {task: _kind(head) for task, head in model.heads.items()}
    return [kind(model, task, made=made, maps=maps) for task, kind in kinds.items() if kind is not None]


@torch.no_grad()
def graphs(model: MergedModel, tasks: Sequence[TaskGraphs]) -> Iterator[Graph]:
    """All graphs of a model's tasks, in the order in which they are run: what needs no picture at the end."""
    for frame in sorted({task.frame for task in tasks}, reverse=True):
        encoder, features = _encoder(model, frame)
        yield encoder
        for task in tasks:
            yield from task.seeing(features, frame=frame)
    for task in tasks:
        yield from task.further()


def _encoder(model: MergedModel, frame: Frame) -> tuple[Graph, dict[str, Tensor]]:
    """And what it gives by name."""
    module, images = Encoder(model.trunk), torch.rand(2, 3, *frame, generator=torch.Generator().manual_seed(0))
    seen = module(images)
    lender = model.adapters[model.base]
    assert isinstance(lender, BaseAdapter)
    names = [f"map_{number}" for number in range(len(lender.features.channels))] + ["summary"]
    features = dict(zip(names, seen, strict=False))
    encoder = Graph(
        name=f"encoder_{word(frame)}",
        about=f"images of {frame[0]} x {frame[1]}, RGB in 0..1, to features",
        module=module,
        inputs={"images": images},
        free={"images": {0: "images"}},
        outputs=tuple(features),
    )
    return encoder, features


def _kind(head: nn.Module) -> type[TaskGraphs] | None:
    return next((kind for heads, kind in _KINDS.items() if isinstance(head, heads)), None)
