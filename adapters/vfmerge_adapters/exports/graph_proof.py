"""A merged model's graphs, run one after another on what its capabilities show its trunk.

Axis letters: B images, S side of the input, T texts, t tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vfmerge.capability import ImageText, Promptable
from vfmerge.model import MergedModel

from ..promptable.head import PromptedHead
from ..text_aligned.aligned import TextAligned
from .graph_export import Run
from .graphs import size_of

if TYPE_CHECKING:
    import numpy as np

Say = Callable[[str, Sequence[Tensor]], tuple[Tensor, ...]]
"""A graph's name and what it takes, in order, to what it gives."""

_CORNERS = torch.tensor([[[0.2, 0.3], [0.6, 0.7]], [[0.4, 0.5], [0.0, 0.0]], [[0.1, 0.1], [0.7, 0.5]]])  # in sides S
_LABELS = torch.tensor([[2, 3], [1, -1], [1, 0]])  # a box, a point, two points


def eager(module: nn.Module) -> Run:
    """A graph's own module, uncompiled."""

    @torch.no_grad()
    def run(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        answer = module(*given)
        return answer if isinstance(answer, tuple) else (answer,)

    return run


def embeddings(model: MergedModel, pictures: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """What the capabilities themselves say of the pictures, by the names that `answers` has for it."""
    offered = {task: model.capability(task) for task in model.heads}
    return {
        f"{task}: embeddings": capability.encode_image(pictures)
        for task, capability in offered.items()
        if isinstance(capability, ImageText)
    }


def answers(
    model: MergedModel, names: Container[str], run: Say, pictures: Sequence[np.ndarray], *, tokens: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Everything that the graphs say of pictures, prompts and texts together, and of the first of each alone.

    names: of the graphs that there are. tokens: for each task that has a text tower, int64 [T, t].
    """
    together = _answer(model, names, run, pictures, tokens=tokens)
    first = {task: each[:1] for task, each in tokens.items()}
    alone = _answer(model, names, run, pictures[:1], tokens=first)
    return together | {f"{name}, alone": tensor for name, tensor in alone.items()}


def _answer(
    model: MergedModel, names: Container[str], run: Say, pictures: Sequence[np.ndarray], *, tokens: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the graphs say; features go from one to the next."""
    found: dict[str, Tensor] = {}
    for task, head in model.heads.items():
        if not isinstance(head, PromptedHead | TextAligned):
            continue
        size = size_of(head)
        features = run(f"encoder_{size}", [shown(model, task, pictures)])
        if isinstance(head, PromptedHead):
            prompts, maps = _prompts(head.side, len(pictures)), run(f"{task}_neck", features)
            logits, scores = run(f"{task}_decoder", [*prompts, *maps])
            found |= {f"{task}: mask logits": logits, f"{task}: scores": scores}
            better, surer = run(f"{task}_decoder_masks", [*prompts, logits[:, :1], *maps])
            found |= {f"{task}: refined mask logits": better, f"{task}: refined scores": surer}
        for other in tokens if isinstance(head, PromptedHead) else (task,):
            if f"{other}_head_{size}" in names:  # of a CLIP's own head at its own size alone
                given = zip(("embeddings", "cells"), run(f"{other}_head_{size}", features), strict=False)
                beside = "" if other == task else f" in the pass of {task}"
                found |= {f"{other}: {name}{beside}": tensor for name, tensor in given}
    for task in tokens:
        (found[f"{task}: texts"],) = run(f"{task}_text", [tokens[task]])
    return found


def shown(model: MergedModel, task: str, pictures: Sequence[np.ndarray]) -> Tensor:
    """Images [B, 3, S, S] in [0, 1] that a task's capability makes of pictures for the trunk."""
    images: list[Tensor] = []
    hook = model.trunk.register_forward_pre_hook(lambda module, given: images.append(given[0]))
    capability = model.capability(task)
    try:
        if isinstance(capability, Promptable):
            for picture in pictures:
                capability.set_image(picture)
        elif isinstance(capability, ImageText):
            capability.encode_image(pictures)
    finally:
        hook.remove()
    return torch.cat(images)


def _prompts(side: int, images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates, labels and owners of prompts: one of one image, all of several."""
    count = 1 if images == 1 else len(_LABELS)
    return _CORNERS[:count] * side, _LABELS[:count], torch.arange(count) % images
