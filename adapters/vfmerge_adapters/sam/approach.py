"""The way from another model's trunk to SAM's neck: its maps as one, on the grid of cells that SAM's decoder knows.

Axis letters: B images, C channels, h x w cells.
"""

from __future__ import annotations

from torch import Tensor, nn

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.features.gather import Gather
from vfmerge.features.grid import resize
from vfmerge.layers import Layer, heads_for, start_from


class Approach(nn.Module):
    """Features -> one map [B, C, h, w].

    Layers follow on the gathered maps, if any; then the map is interpolated to cells of SAM's patches. On SAM's own
    trunk, or one like it, nothing is left to do.

    width: channels of the result.
    """

    def __init__(self, spec: FeatureSpec, *, patch: int, layers: int = 0) -> None:
        """spec: of the trunk. patch: pixels a cell of SAM's. layers: transformer layers."""
        super().__init__()
        self.gather = Gather(spec, stride=patch)
        self.width = width = self.gather.width
        self._scale = self.gather.stride / patch
        heads = heads_for(spec, width)
        self.layers = nn.ModuleList([Layer(width=width, heads=heads) for _ in range(layers)])

    def forward(self, features: Features) -> Tensor:
        x = self._attend(self.gather(features.maps))
        h, w = (max(1, round(side * self._scale)) for side in x.shape[-2:])
        return resize(x, h, w)

    def start(self, trunk: nn.Module, parent: nn.Module) -> None:
        """Layers like the last block of the trunk, where it has such; the parent's has nothing to give."""
        start_from(trunk, self.layers)

    def _attend(self, x: Tensor) -> Tensor:
        if not len(self.layers):
            return x
        h, w = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)  # [B, h w, C]
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.transpose(1, 2).unflatten(2, (h, w))
