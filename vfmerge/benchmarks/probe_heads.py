"""Segmentation heads for probing a frozen trunk: one map of features in, logits of classes per cell out.

The one module here that imports torch at once, since networks are classes of it: import it where one is made.

Axis letters: B images, C channels of the trunk, h x w cells, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Head = Literal["linear", "deeplabv3", "pspnet"]

_RATES = (6, 12, 18)  # of atrous convolutions, at output stride 16 (DeepLabv3, section 4.1)
_ASPP = 256  # channels of its branches
_BINS = (1, 2, 3, 6)  # cells a side that PSPNet pools into
_PYRAMID = 512  # channels of its last but one layer


def build(head: Head, *, channels: int, classes: int) -> nn.Module:
    """A head with random weights: [B, C, h, w] -> [B, K, h, w]."""
    match head:
        case "linear":
            return nn.Conv2d(channels, classes, 1)
        case "deeplabv3":
            return deeplabv3(channels, classes)
        case "pspnet":
            return pspnet(channels, classes)


def deeplabv3(channels: int, classes: int) -> nn.Module:
    """DeepLabv3 (arXiv 1706.05587, section 3.3): cells seen at several rates side by side, and all of them at once.

    As torchvision's `DeepLabHead` computes it, dropout included, with the same tensors in the same order.
    """
    branches = [_block(channels, _ASPP, kernel=1), *(_block(channels, _ASPP, kernel=3, rate=r) for r in _RATES)]
    return nn.Sequential(
        Beside([*branches, Whole(channels, _ASPP, cells=1)]),
        _block((len(branches) + 1) * _ASPP, _ASPP, kernel=1),
        nn.Dropout(0.5),
        _block(_ASPP, _ASPP, kernel=3),
        nn.Conv2d(_ASPP, classes, 1),
    )


def pspnet(channels: int, classes: int) -> nn.Module:
    """PSPNet (arXiv 1612.01105, section 3.2): each cell beside what pools of 1, 2, 3 and 6 cells a side around it hold.

    A pool's features are narrowed to a quarter of the trunk's, so that they are as many as these together.
    """
    narrow = max(channels // len(_BINS), 1)
    pools = [Whole(channels, narrow, cells=cells) for cells in _BINS]
    return nn.Sequential(
        Beside([nn.Identity(), *pools]),
        _block(channels + len(pools) * narrow, _PYRAMID, kernel=3),
        nn.Dropout(0.1),
        nn.Conv2d(_PYRAMID, classes, 1),
    )


class Beside(nn.Module):
    """Branches of one input, their channels side by side."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Whole(nn.Module):
    """The map averaged into so many cells a side, mixed, and enlarged again to h x w."""

    def __init__(self, channels: int, out: int, *, cells: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(cells)
        self.mix = _block(channels, out, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.mix(self.pool(x))
        return F.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=False)


def _block(channels: int, out: int, *, kernel: int, rate: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU; the map keeps its size."""
    convolution = nn.Conv2d(channels, out, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())
