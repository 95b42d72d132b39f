"""The neck that learns another model's pyramid: SAM2CLIP of Open-Vocabulary SAM (arXiv 2401.02955, section 3.2).

Where the paper and the code published with it differ, this is the code's, which has made the published numbers.

Axis letters: B images, L maps of the trunk, C channels, h x w cells of SAM's patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.errors import InputError

from ..promptable.positions import positions

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT
    from segment_anything.modeling.image_encoder import Block

    from .network import Trunk


class PyramidNeck(nn.Module):
    """Features -> one map [B, C, h, w].

    Each map is embedded in SAM's patches and encoded with its level. Their sum goes, with SAM's positions, through
    blocks like SAM's.

    width: channels of the result, SAM's own.
    """

    position: Tensor

    def __init__(self, encoder: ImageEncoderViT, *, spec: FeatureSpec) -> None:
        """encoder: SAM's, as deep as the neck, whose blocks become its own. spec: of the trunk.

        Raises InputError for a stride of which SAM's patch is neither a multiple nor a part.
        """
        super().__init__()
        assert encoder.pos_embed is not None
        patch, self.width = encoder.patch_embed.proj.stride[0], encoder.pos_embed.shape[-1]
        pairs = zip(spec.channels, spec.strides, strict=True)
        self.patches = nn.ModuleList([_embedding(c, self.width, stride=s, patch=patch) for c, s in pairs])
        self.levels = nn.Parameter(torch.randn(len(spec.strides), self.width))  # [L, C]
        self.register_buffer("position", torch.zeros_like(encoder.pos_embed))  # [1, h, w, C]
        self.blocks = encoder.blocks
        self._cells = max(1, patch // spec.strides[0])  # of the finest map, a patch along a side

    def forward(self, features: Features) -> Tensor:
        """Raises InputError unless patches fill the maps."""
        x = self.embed(features).permute(0, 2, 3, 1)  # [B, h, w, C]
        x = x + positions(self.position, x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)

    def embed(self, features: Features) -> Tensor:
        """The sum over the maps, [B, C, h, w], of patches with the encodings of their levels."""
        h, w = features.maps[0].shape[-2:]
        if h % self._cells or w % self._cells:  # the edge would not be seen
            raise InputError(f"size: maps of {h} x {w} cells are no multiple of SAM's {self._cells} a patch; mend it")
        embedded = [patch(each) for patch, each in zip(self.patches, features.maps, strict=True)]
        return torch.stack(embedded).sum(0) + self.levels.sum(0).view(-1, 1, 1)

    def start(self, trunk: nn.Module, parent: Trunk) -> None:
        """The parent's positions, and its last blocks that attend as these do, in windows or globally.

        The paper leaves the blocks' start open. On the tiny pair 500 steps brought these to an MSE of 0.020, random
        ones to 0.022 (chosen here). Blocks of which the parent has too few stay random.
        """
        self.position.copy_(parent.pos_embed.detach())
        for windowed in (True, False):
            own, known = (_attending(blocks, windowed=windowed) for blocks in (self.blocks, parent.blocks))
            for block, source in zip(reversed(own), reversed(known), strict=False):
                block.load_state_dict(source.state_dict())


def _embedding(channels: int, width: int, *, stride: int, patch: int) -> nn.Module:
    """A map's cells of `stride` pixels as SAM's patches: several cells a patch, or several patches a cell."""
    if patch % stride == 0:
        return nn.Conv2d(channels, width, kernel_size=patch // stride, stride=patch // stride)
    if stride % patch == 0:
        return nn.ConvTranspose2d(channels, width, kernel_size=stride // patch, stride=stride // patch)
    raise InputError(
        f"blocks: the trunk's cells of {stride} pixels do not fill SAM's patches of {patch}, nor patches the cells; "
        "choose another base, or `blocks: 0`"
    )


def _attending(blocks: nn.ModuleList, *, windowed: bool) -> list[Block]:
    """Those of SAM's blocks that attend in windows, or globally, in their order."""
    return [block for block in blocks if bool(block.window_size) == windowed]
