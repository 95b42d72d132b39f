"""What learns a CLIP on another model's trunk: transformer layers, max-pooling, LayerNorm and an MLP into its space.

SAM-CLIP, arXiv 2310.15308, appendix A. The layers start as copies of the trunk's last transformer block.

Axis letters: B images, C channels, h x w cells, n = h w, D embedding width, M regions of all images together.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.layers import Layer, start_from

from .aligned import TextAligned
from .regions import mean_under


class ClipHead(TextAligned):
    """Features -> embeddings of images, or of their cells. Reads the trunk's coarsest map."""

    def __init__(
        self,
        text: nn.Module,
        *,
        width: int,
        heads: int,
        layers: int,
        hidden: tuple[int, int],
        embedding: int,
        cells: int,
        window: int,
        size: int,
        stride: int,
        fixed_size: int | None = None,
    ) -> None:
        """width: channels of the map. heads: of each layer's attention. hidden: the MLP's widths. embedding: D.

        cells: the most cells a side that the layers attend over. window: cells a side that a cell's embedding pools.
        size, stride, fixed_size: as in `TextAligned`.
        """
        super().__init__(text, embedding=embedding, size=(size, size), stride=stride, fixed_size=fixed_size)
        self._most, self._window = cells, window
        self.layers = nn.ModuleList([Layer(width=width, heads=heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden[0]),
            nn.GELU(),
            nn.Linear(hidden[0], hidden[1]),
            nn.GELU(),
            nn.Linear(hidden[1], embedding),
        )

    def embed(self, features: Features) -> Tensor:
        return self._project(self._attend(features).amax((2, 3)))

    def start(self, trunk: nn.Module, parent: TextAligned) -> None:
        """The text tower is the parent's; layers are the trunk's last block, if that is such."""
        self.text.load_state_dict(parent.text.state_dict())
        start_from(trunk, self.layers)

    @property
    def regional(self) -> bool:
        return True

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        """The mean of the unit embeddings of the cells under each mask."""
        return mean_under(F.normalize(self._cells(features), dim=1), masks, owner)

    def see(self, trunk: nn.Module, images: Tensor) -> Features:
        features: Features = trunk(images)
        return features

    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        return self.see(trunk, images)

    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        return self._cells(self.see(trunk, images))

    def _cells(self, features: Features) -> Tensor:
        """Embeddings of the cells [B, D, h, w]."""
        x = F.max_pool2d(self._attend(features), self._window, stride=1, padding=self._window // 2)
        return self._project(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _attend(self, features: Features) -> Tensor:
        """[B, C, h, w], at most so many cells a side as the head takes: attention's cost grows with their square."""
        x = features.maps[-1]
        factor = math.ceil(max(x.shape[-2:]) / self._most)
        if factor > 1:  # SAM-CLIP's own CLIP mask at 1024 pixels is 32 x 32, of 64 x 64 cells
            x = F.avg_pool2d(x, factor, ceil_mode=True)
        h, w = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(1, 2).unflatten(2, (h, w))

    def _project(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(x)).float()  # [..., C] -> [..., D]
