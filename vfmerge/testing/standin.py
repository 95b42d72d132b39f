"""A trunk of any shape, so that a head can be tried on trunks that its author has never met.

Axis letters: B images, C channels, h x w cells, H x W pixels, D summary width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vfmerge import losses, random
from vfmerge.adapter import BaseAdapter, Batch, Features, FeatureSpec
from vfmerge.capability import Capability
from vfmerge.model import Network


class StandIn(BaseAdapter):
    """A random trunk of one layer that keeps a given promise."""

    interface = 2
    licence = "Apache-2.0"

    def __init__(
        self,
        *,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        summary: int | None = None,
        heads: int | None = None,
    ) -> None:
        self._features = FeatureSpec(channels=channels, strides=strides, summary=summary, heads=heads)

    @property
    def features(self) -> FeatureSpec:
        return self._features

    def portable(self) -> dict[str, Any]:
        spec = self._features
        return {
            "channels": list(spec.channels),
            "strides": list(spec.strides),
            "summary": spec.summary,
            "heads": spec.heads,
        }

    def trunk(self) -> nn.Module:
        return Trunk(self._features)

    def teacher(self) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random.key("stand-in", repr(self._features)))
            return Network(self.trunk(), Head()).eval()

    def head(self, features: FeatureSpec) -> nn.Module:
        return Head()

    def own_head(self) -> nn.Module:
        return Head()

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """It has no weights."""

    def loss(self, answer: Tensor, target: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {"squared": losses.squared(answer, target)}

    def capability(self, network: Network) -> Capability:
        return Looking(network)


class Trunk(nn.Module):
    """Every map is one convolution of the picture's patches; the summary is read off the last one's mean."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        pairs = zip(spec.channels, spec.strides, strict=True)
        self.patches = nn.ModuleList([nn.Conv2d(3, width, kernel_size=side, stride=side) for width, side in pairs])
        self.summary = nn.Linear(spec.channels[-1], spec.summary) if spec.summary else None

    def forward(self, images: Tensor) -> Features:
        """[B, 3, H, W] in [0, 1] -> maps [B, C, h, w] and a summary [B, D] or none."""
        maps = tuple(patch(4 * images - 2) for patch in self.patches)  # about mean 0 and variance 1
        return Features(maps=maps, summary=self.summary(maps[-1].mean((2, 3))) if self.summary else None)


class Head(nn.Module):
    """The mean of the last map's cells."""

    def forward(self, features: Features, batch: Batch) -> Tensor:
        """-> [B, C]."""
        return features.maps[-1].mean((2, 3))


class Looking(Capability):
    """Nothing but looking."""

    name = "looking"

    def exercise(self, picture: np.ndarray, *, size: int | None = None) -> None:
        """Nothing to do."""
