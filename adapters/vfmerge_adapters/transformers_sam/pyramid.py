"""Necks that give the mask decoder of SAM 2 and 3 its three maps, each twice as fine as the next.

Axis letters: B images, C channels, h x w cells of the coarsest map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features

SCALES = (4.0, 2.0, 1.0)
"""How much finer than the trunk's one map the maps of a `Simple` pyramid are."""


class TopDown(nn.Module):
    """SAM 2's feature pyramid network (arXiv 1612.03144) over a trunk's maps; names as in `Sam2VisionNeck`."""

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        self.convs = neck.convs  # the coarsest map's first
        self._helped = frozenset(neck.fpn_top_down_levels)

    def forward(self, features: Features) -> tuple[Tensor, ...]:
        """The three finest maps [B, C, 4h, 4w], [B, C, 2h, 2w] and [B, C, h, w]."""
        found: list[Tensor] = []
        for level, conv in zip(reversed(range(len(features.maps))), self.convs, strict=True):
            lateral = conv(features.maps[level])
            if level in self._helped and found:
                lateral = lateral + F.interpolate(found[-1], scale_factor=2.0, mode="nearest")
            found.append(lateral)
        return tuple(found[:-4:-1])


class Simple(nn.Module):
    """A pyramid of one map, as SAM 3 has it (arXiv 2511.16719), after ViTDet (arXiv 2203.16527, section 3).

    layers: what makes the maps of `SCALES`. level: which of the trunk's maps they are made of.
    """

    def __init__(self, layers: Sequence[nn.Module], *, level: int) -> None:
        super().__init__()
        self.fpn_layers = nn.ModuleList(layers)
        self._level = level

    def forward(self, features: Features) -> tuple[Tensor, ...]:
        """Maps [B, C, 4h, 4w], [B, C, 2h, 2w] and [B, C, h, w]."""
        return tuple(layer(features.maps[self._level]) for layer in self.fpn_layers)
