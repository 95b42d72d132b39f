"""The parts of a merged model as modules that take and give plain tensors.

Axis letters: B images, H x W pixels, M prompts of all images together, n points of a prompt, K masks, T texts,
t tokens, D embedding width, h x w cells.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.features.head import FeatureHead, split

from ..promptable.head import PromptedHead
from ..promptable.prompts import Prompts
from ..text_aligned.aligned import TextAligned
from ..text_aligned.head import ClipHead

Module = TypeVar("Module", bound=nn.Module)


class Encoder(nn.Module):
    """images [B, 3, H, W] in [0, 1] -> the trunk's maps, finest first, and its summary if it has one."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        seen: Features = self.trunk(images)
        return _whole(seen.maps if seen.summary is None else (*seen.maps, seen.summary))


class Neck(nn.Module):
    """What the encoder gives -> what masks are decoded from, finest first."""

    def __init__(self, head: PromptedHead, *, maps: int) -> None:
        """maps: how many the trunk has."""
        super().__init__()
        self.head, self._maps = head, maps

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        return _whole(self.head.embed(features_of(features, maps=self._maps)))


class Decoder(nn.Module):
    """Prompts and what the neck gives -> mask logits [M, K, 4h, 4w] and IoU scores [M, K], as `PromptedHead.decode`.

    coords [M, n, 2] in pixels of the encoder's square; labels [M, n]: 1 inside, 0 outside, 2 and 3 a box's corners, -1
    none; owner [M], the image of each prompt. A head that takes only such as are alike: as `prompts.alike` gives them.
    """

    def __init__(self, head: PromptedHead) -> None:
        super().__init__()
        self.head = _without_neck(head)

    def forward(self, coords: Tensor, labels: Tensor, owner: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        frame = (self.head.side, self.head.side)
        prompts = Prompts(owner=owner, coords=coords, labels=labels, alike=self.head.alike)
        return self.head.decode(maps, prompts, frame)


class Refiner(nn.Module):
    """As `Decoder`, of prompts with rough masks: logits [M, 1, 4h, 4w] over the whole square."""

    def __init__(self, head: PromptedHead) -> None:
        super().__init__()
        self.head = _without_neck(head)

    def forward(
        self, coords: Tensor, labels: Tensor, owner: Tensor, masks: Tensor, *maps: Tensor
    ) -> tuple[Tensor, Tensor]:
        frame = (self.head.side, self.head.side)
        prompts = Prompts(owner=owner, coords=coords, labels=labels, masks=masks, alike=self.head.alike)
        return self.head.decode(maps, prompts, frame)


class Aligned(nn.Module):
    """What the encoder gives -> unit embeddings of images [B, D], and of cells [B, D, h, w] where there are such."""

    def __init__(self, head: TextAligned, *, maps: int) -> None:
        super().__init__()
        self.head, self._maps = replaced(head, text=nn.Identity()), maps

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        seen = features_of(features, maps=self._maps)
        embeddings = F.normalize(self.head.embed(seen), dim=-1)
        if not isinstance(self.head, ClipHead):  # a CLIP's own head sends cells another way through its trunk
            return (embeddings,)
        return embeddings, F.normalize(self.head.cells(_Given(seen), seen.maps[-1]), dim=1)


class Dense(nn.Module):
    """What the encoder gives -> the parent's features, as far as there are such: cells [B, C, h, w], a summary [B, D].

    names: of these, "cells" and "summary".
    """

    def __init__(self, head: FeatureHead, *, maps: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.head, self._maps, self._names = head, maps, names

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        return _whole(tuple(split(self.head.see(features_of(features, maps=self._maps)), self._names).values()))


class Texts(nn.Module):
    """tokens int64 [T, t] -> unit embeddings [T, D]."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.text(tokens).float(), dim=-1)


class _Given(nn.Module):
    """In the place of a trunk: features that are there already."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self._features = features

    def forward(self, images: Tensor) -> Features:
        return self._features


def replaced(module: Module, **parts: nn.Module) -> Module:
    """The same module but for some of its parts: a compiler puts into its file what nothing asks, too."""
    bare = copy.copy(module)
    bare._modules = module._modules | parts
    return bare


def _without_neck(head: PromptedHead) -> PromptedHead:
    """What decodes; the maps that it decodes from are there already."""
    necks = {name: nn.Identity() for name, part in head.named_children() if name in ("approach", "neck")}
    return replaced(head, **necks)


def _whole(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same in the plain order of memory: else a program may refuse a batch of one, whose strides are others."""
    return tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors)


def features_of(tensors: tuple[Tensor, ...], *, maps: int) -> Features:
    """What the encoder gave. maps: how many of the tensors are such; a further one is the summary."""
    return Features(maps=tensors[:maps], summary=tensors[maps] if len(tensors) > maps else None)
