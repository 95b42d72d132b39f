"""A trunk's maps as one, on the grid that is most like a parent's.

Axis letters: B images, C channels, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vfmerge.adapter import FeatureSpec

from .grid import resize


class Gather(nn.Module):
    """Maps -> one map [B, C, h, w].

    Of a pyramid all maps are brought to one grid and added up, as a feature pyramid's are (arXiv 1612.03144), so that
    fine cells know what coarse ones mean (chosen here: papers have trunks of one map). A single map is left as it is.

    width: channels of the result. stride: pixels a cell of it.
    """

    def __init__(self, spec: FeatureSpec, *, stride: int) -> None:
        """spec: of the trunk. stride: the parent's; the grid is that of the trunk's nearest map."""
        super().__init__()
        self._map = nearest_map(spec, stride)
        self.width, self.stride = spec.channels[self._map], spec.strides[self._map]
        several = spec.channels if len(spec.channels) > 1 else ()
        self.laterals = nn.ModuleList([nn.Conv2d(channels, self.width, kernel_size=1) for channels in several])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        if not len(self.laterals):
            return maps[-1]
        h, w = maps[self._map].shape[-2:]
        pairs = zip(self.laterals, maps, strict=True)
        return torch.stack([resize(lateral(each), h, w) for lateral, each in pairs]).sum(0)


def nearest_map(spec: FeatureSpec, stride: int) -> int:
    """The trunk's map whose stride is nearest, of equals the coarser."""
    ratios = [max(each / stride, stride / each) for each in spec.strides]
    return max(number for number, ratio in enumerate(ratios) if ratio == min(ratios))
