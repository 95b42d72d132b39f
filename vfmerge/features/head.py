"""Heads that answer with features: of a picture (its summary) and of its cells, in their parent's own space.

Axis letters: B images, C channels, h x w cells, n = h w, D summary width.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.layers import Layer, heads_for

from .gather import Gather
from .settings import Distill
from .standard import Standard, standard


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Features by part, `summary` [B, D] and `cells` [B, C, h, w], and the scale that each part is compared on."""

    parts: Mapping[str, Tensor]
    standards: Mapping[str, Standard]


class FeatureHead(nn.Module, abc.ABC):
    """Base of all: what a person and a loss ask of one.

    size: default side in pixels of a picture. stride: what sides are multiples of. fixed_size: the only side, or none.
    """

    def __init__(self, spec: FeatureSpec, *, size: int) -> None:
        """spec: of the trunk that it sits on."""
        super().__init__()
        self.size = size
        self.stride = max(spec.strides)
        self.fixed_size = spec.fixed_size

    @abc.abstractmethod
    def see(self, features: Features) -> Features:
        """The parent's features, one map and a summary or none of it, from those of the trunk that it sits on."""


class ParentHead(FeatureHead):
    """A parent's: its trunk has done all the work. Gives targets."""

    def __init__(self, spec: FeatureSpec, *, names: tuple[str, ...], size: int) -> None:
        super().__init__(spec, size=size)
        self._names = names

    def see(self, features: Features) -> Features:
        return Features(maps=features.maps[-1:], summary=features.summary)

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, ...]:
        """The parts that are learnt, in the order of their names."""
        return tuple(split(features, self._names).values())


class OwnHead(FeatureHead):
    """A base's own: what its trunk sees is the answer. It has statistics and nothing to learn."""

    def __init__(self, spec: FeatureSpec, *, widths: Mapping[str, int], settings: Distill, size: int) -> None:
        """widths: channels of each part."""
        super().__init__(spec, size=size)
        self.standards = nn.ModuleDict({name: standard(settings, width) for name, width in widths.items()})

    def see(self, features: Features) -> Features:
        return Features(maps=features.maps[-1:], summary=features.summary)

    def forward(self, features: Features, batch: Batch) -> Answer:
        scales = scales_of(self.standards)
        return Answer(parts=split(features, tuple(scales)), standards=scales)


class LearntHead(FeatureHead):
    """What is taught: layers if there are any, then an MLP for each part.

    The summary is read off the trunk's own, where it has one, with the mean of the cells; with layers, off a token that
    goes through them (chosen here).
    """

    def __init__(
        self, spec: FeatureSpec, *, widths: Mapping[str, int], stride: int, settings: Distill, size: int
    ) -> None:
        """widths: channels of each part. stride: the parent's; the grid is that of the trunk's nearest map."""
        super().__init__(spec, size=size)
        self.gather = Gather(spec, stride=stride)
        width = self.gather.width
        heads = heads_for(spec, width)
        self.layers = nn.ModuleList([Layer(width=width, heads=heads) for _ in range(settings.layers)])
        self.token = nn.Parameter(0.02 * torch.randn(width)) if settings.layers else None
        self.inward = nn.Linear(spec.summary, width) if spec.summary else None
        self.norm = nn.LayerNorm(width)
        self.mlps = nn.ModuleDict(
            {name: _mlp(width, settings.hidden or max(width, out), out) for name, out in widths.items()}
        )
        self.standards = nn.ModuleDict({name: standard(settings, out) for name, out in widths.items()})

    def see(self, features: Features) -> Features:
        parts = self._answer(features)
        return Features(maps=(parts["cells"],) if "cells" in parts else (), summary=parts.get("summary"))

    def forward(self, features: Features, batch: Batch) -> Answer:
        return Answer(parts=self._answer(features), standards=scales_of(self.standards))

    def _answer(self, features: Features) -> dict[str, Tensor]:
        cells = self.gather(features.maps)
        h, w = cells.shape[-2:]
        token, x = self._attend(self._summary(cells, features.summary), cells.flatten(2).transpose(1, 2))
        scales = scales_of(self.standards)
        parts = {}
        if "summary" in scales:
            parts["summary"] = scales["summary"].invert(self.mlps["summary"](self.norm(token)).float())
        if "cells" in scales:
            learnt = scales["cells"].invert(self.mlps["cells"](self.norm(x)).float())  # [B, n, C]
            parts["cells"] = learnt.transpose(1, 2).reshape(learnt.shape[0], -1, h, w)
        return parts

    def _summary(self, cells: Tensor, summary: Tensor | None) -> Tensor:
        """What stands for the whole picture, [B, C]."""
        mean = cells.mean((2, 3))
        if self.inward is None or summary is None:
            return mean
        inward: Tensor = self.inward(summary)
        return mean + inward

    def _attend(self, token: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The picture's token [B, C] and its cells [B, n, C] after the layers."""
        if self.token is None:
            return token, cells
        x = torch.cat([(token + self.token).unsqueeze(1), cells], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x[:, 0], x[:, 1:]


def split(features: Features, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The named parts of a model's features."""
    parts = {"cells": features.maps[-1]} if features.maps else {}
    if features.summary is not None:
        parts["summary"] = features.summary
    return {name: parts[name].float() for name in names}


def scales_of(standards: nn.ModuleDict) -> dict[str, Standard]:
    """The same, typed."""
    return {name: each for name, each in standards.items() if isinstance(each, Standard)}


def _mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Linear, LayerNorm, GELU, Linear: EUPE's adaptor."""
    return nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, out))
