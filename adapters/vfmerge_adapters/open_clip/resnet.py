"""OpenAI's ResNets as trunk and own head.

Axis letters: B images, C channels, h x w cells, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vfmerge.adapter import Features, FeatureSpec

from .config import Config
from .own import Projection
from .trunk import Trunk
from .vit import positions


class ResnetTrunk(Trunk):
    """Maps of all four stages, at strides 4, 8, 16 and 32; the summary is the last one's mean."""

    def see(self, images: Tensor) -> Features:
        maps = self._stages(images)
        return Features(maps=maps, summary=maps[-1].mean((2, 3)))

    def see_alone(self, images: Tensor) -> Tensor:
        """The last map: its convolutions have seen no more than they can."""
        return self._stages(images)[-1]

    def _stages(self, images: Tensor) -> tuple[Tensor, ...]:
        visual = self.visual
        x, maps = visual.stem(images), []
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
            maps.append(x)
        return tuple(maps)


class AttentionPool(Projection):
    """The attention pool, which projects as it pools (arXiv 2103.00020, section 2.4). Positions follow the grid."""

    def __init__(self, attnpool: nn.Module) -> None:
        super().__init__()
        self.attnpool = attnpool

    def embed(self, features: Features) -> Tensor:
        x, pool = features.maps[-1], self.attnpool
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        if x.shape[-2:] == (side, side):
            return pool(x)
        own = positions(pool.positional_embedding, (side, side), x.shape[-2], x.shape[-1])
        return torch.func.functional_call(pool, {"positional_embedding": own}, (x,))

    def summarise(self, features: Features) -> Tensor:
        return self.embed(features)

    def cells(self, alone: Tensor) -> Tensor:
        """The pool's values, projected, at every cell."""
        pool = self.attnpool
        return pool.c_proj(pool.v_proj(alone.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def cut(visual: nn.Module, *, config: Config, spec: FeatureSpec) -> tuple[ResnetTrunk, AttentionPool]:
    """An open_clip `ModifiedResNet` as trunk and projection; it is taken apart."""
    projection = AttentionPool(visual.attnpool)
    visual.attnpool = None
    return ResnetTrunk(visual, config=config, spec=spec), projection
