"""open_clip's own vision transformers, CoCa's among them, as trunk and own head.

Axis letters: B images, C channels, h x w cells, D embedding width, n tokens: one of the whole image, then the cells.
"""

from __future__ import annotations

from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.errors import InputError

from ..text_aligned.own import Projection
from .config import Config
from .trunk import Trunk


class VitTrunk(Trunk):
    """The last block's tokens, normalised, and what the tower pools of them. Positions are interpolated to the grid."""

    def see(self, images: Tensor) -> Features:
        visual = self.visual
        x, grid = self._embed(images)
        x = visual.transformer(x)
        known = visual.ln_post(x)
        if visual.pool_type == "tok":
            summary = known[:, 0]
        elif visual.final_ln_after_pool:
            summary = visual.ln_post(x[:, 1:].mean(1))
        else:
            summary = known[:, 1:].mean(1)
        return Features(maps=(known[:, 1:].transpose(1, 2).unflatten(2, grid),), summary=summary)

    def see_alone(self, images: Tensor) -> Tensor:
        """The last block with every token attending to itself alone."""
        x, grid = self._embed(images)
        *blocks, last = self.visual.transformer.resblocks
        for block in blocks:
            x = block(x)
        alone = torch.full((x.shape[1], x.shape[1]), float("-inf"), device=x.device).fill_diagonal_(0)
        known: Tensor = self.visual.ln_post(last(x, attn_mask=alone)[:, 1:])
        return known.transpose(1, 2).unflatten(2, grid)

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What the first block is given [B, n, C], and h, w."""
        visual = self.visual
        x = visual.conv1(images)  # [B, C, h, w]
        h, w = x.shape[-2:]
        summary = visual.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([summary, x.flatten(2).transpose(1, 2)], dim=1)  # [B, n, C]
        return visual.ln_pre(x + positions(visual.positional_embedding, visual.grid_size, h, w)), (h, w)


class Matrix(Projection):
    """A product with the summary."""

    regional = False

    def __init__(self, proj: nn.Parameter) -> None:
        """proj: [C, D]."""
        super().__init__()
        self.proj = proj

    def embed(self, features: Features) -> Tensor:
        return self.summarise(features) @ self.proj

    def summarise(self, features: Features) -> Tensor:
        assert features.summary is not None
        return features.summary

    def cells(self, alone: Tensor) -> Tensor:
        x = alone.flatten(2).transpose(1, 2) @ self.proj
        return x.transpose(1, 2).unflatten(2, alone.shape[-2:])

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> NoReturn:
        raise InputError("model: the features of a ViT alone have no embeddings of regions; use a CLIP of convolutions")


class Captioner(Projection):
    """CoCa's attentional pooling (arXiv 2205.01917, section 3.2) of all tokens, which a norm and a product follow."""

    regional = False

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.attn_pool, self.ln_post, self.proj = visual.attn_pool, visual.ln_post, visual.proj
        self._mean = visual.pool_type == "avg"

    def embed(self, features: Features) -> Tensor:
        assert features.summary is not None
        x = torch.cat([features.summary.unsqueeze(1), features.maps[-1].flatten(2).transpose(1, 2)], dim=1)
        x = self.ln_post(self.attn_pool(x))  # of every query
        return (x[:, 1:].mean(1) if self._mean else x[:, 0]) @ self.proj

    def summarise(self, features: Features) -> Tensor:
        return self.embed(features)

    def cells(self, alone: Tensor) -> NoReturn:
        raise InputError("attentional_pool: such a tower has no embeddings of cells; use another CLIP")

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> NoReturn:
        raise InputError("attentional_pool: such a tower has no embeddings of regions; use a CLIP of convolutions")


def cut(visual: nn.Module, *, config: Config, spec: FeatureSpec) -> tuple[VitTrunk, Projection]:
    """An open_clip `VisionTransformer` as trunk and projection; it is taken apart."""
    if visual.attn_pool is None:
        projection: Projection = Matrix(visual.proj)
    else:
        if visual.attn_pool_type:
            raise InputError(f"attentional_pool: {visual.attn_pool_type!r} is unfinished in open_clip; write true")
        projection = Captioner(visual)
        visual.attn_pool, visual.ln_post, visual.pool_type = None, nn.Identity(), "tok"
    visual.proj = None
    return VitTrunk(visual, config=config, spec=spec), projection


def positions(embedding: Tensor, grid: tuple[int, int], h: int, w: int) -> Tensor:
    """A position embedding [n, C], of the whole and of a grid of cells, for a grid of h x w cells."""
    if grid == (h, w):
        return embedding
    cells = embedding[1:].unflatten(0, grid).permute(2, 0, 1).unsqueeze(0)
    cells = F.interpolate(cells, size=(h, w), mode="bicubic", antialias=True)
    return torch.cat([embedding[:1], cells[0].flatten(1).T])
