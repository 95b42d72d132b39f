"""A light feature pyramid: a trunk's maps at one width, each told what the coarser ones have seen.

Feature Pyramid Networks, arXiv 1612.03144, section 3, without normalisation and activation: the light FPN of
Open-Vocabulary SAM, arXiv 2401.02955, section 3.3.

Axis letters: B images, C channels, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Maps [B, C of each, h, w], finest first -> as many maps [B, width, h, w] of the same cells.

    Its first weights are uniform by Xavier's rule, its first biases zero, as in the published code.
    """

    def __init__(self, channels: Sequence[int], *, width: int) -> None:
        """channels: of each map. width: of all that come out."""
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(each, width, kernel_size=1) for each in channels])
        self.output = nn.ModuleList([nn.Conv2d(width, width, kernel_size=3, padding=1) for _ in channels])
        for convolution in (*self.lateral, *self.output):
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        levels = [lateral(each) for lateral, each in zip(self.lateral, maps, strict=True)]
        for finer in range(len(levels) - 2, -1, -1):
            above = F.interpolate(levels[finer + 1], size=levels[finer].shape[-2:], mode="nearest")
            levels[finer] = levels[finer] + above
        return tuple(output(each) for output, each in zip(self.output, levels, strict=True))
