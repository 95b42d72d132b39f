"""OpenAI's ResNets as trunk and own head.

Axis letters: B images, C channels, h x w cells, D embedding width, M regions of all images together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from vfmerge.adapter import Features, FeatureSpec

from ..text_aligned.own import Projection
from .config import Config
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

    regional = True

    def __init__(self, attnpool: nn.Module) -> None:
        super().__init__()
        self.attnpool = attnpool

    def embed(self, features: Features) -> Tensor:
        x, pool = features.maps[-1], self.attnpool
        if x.shape[-2:] == (self._side, self._side):
            return pool(x)
        own = positions(pool.positional_embedding, (self._side, self._side), x.shape[-2], x.shape[-1])
        return torch.func.functional_call(pool, {"positional_embedding": own}, (x,))

    def summarise(self, features: Features) -> Tensor:
        return self.embed(features)

    def cells(self, alone: Tensor) -> Tensor:
        """The pool's values, projected, at every cell."""
        pool = self.attnpool
        return pool.c_proj(pool.v_proj(alone.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        """RoIAlign (arXiv 1703.06870) of each box on the last map, to as many cells as the pool knows positions for.

        So does Open-Vocabulary SAM's code (arXiv 2401.02955) look at regions of its frozen CLIP.
        """
        x = features.maps[-1].float()
        rois = torch.cat([owner[:, None].to(boxes), boxes], dim=1)  # [M, 5]
        scale = x.shape[-1] / frame[1]
        return self.attnpool(roi_align(x, rois, self._side, spatial_scale=scale, sampling_ratio=-1, aligned=True))

    @property
    def _side(self) -> int:
        """Cells a side of the map that the pool was made for."""
        return round((len(self.attnpool.positional_embedding) - 1) ** 0.5)


def cut(visual: nn.Module, *, config: Config, spec: FeatureSpec) -> tuple[ResnetTrunk, AttentionPool]:
    """An open_clip `ModifiedResNet` as trunk and projection; it is taken apart."""
    projection = AttentionPool(visual.attnpool)
    visual.attnpool = None
    return ResnetTrunk(visual, config=config, spec=spec), projection
