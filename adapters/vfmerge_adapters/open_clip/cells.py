"""Cells of a picture from an image tower that was taught whole pictures only: as embeddings, and as the tower has them.

An embedding is in the space of texts. Each cell goes the way that the whole picture would go if it were the only cell
there was: the last attention sees it alone, so that its value is its result. For the attention at the end of a CLIP's
tower this is MaskCLIP (Extract Free Dense Labels from CLIP, arXiv 2112.01071, section 3.3).

Axis letters: B images, C channels, h x w cells, D embedding width, n tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.errors import InputError

from .config import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """A way to see cells.

    embed: (image tower, normalised images [B, 3, H, W]) -> [B, D, h, w], in the space of texts.
    see: the same -> Features before the projection into that space: the last layer's map, and the summary.
    stride: pixels a cell, where the tower takes any multiple of it. fixed: else the one size it takes.
    """

    embed: Callable[[nn.Module, Tensor], Tensor]
    see: Callable[[nn.Module, Tensor], Features]
    stride: int = 1
    fixed: tuple[int, int] | None = None

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The height and width nearest to these that the tower takes."""
        if self.fixed is not None:
            return self.fixed
        return tuple(max(1, round(side / self.stride)) * self.stride for side in (height, width))


def of(config: Config) -> Look:
    """The way that fits a config's image tower."""
    vision = config.model_cfg.vision_cfg
    if config.kind == "resnet":
        return Look(embed=_resnet, see=_see_resnet, stride=32)
    if config.kind == "vit" and not vision.get("attentional_pool"):
        return Look(embed=_vit, see=_see_vit, stride=vision.get("patch_size", 16))
    if config.kind == "timm" and vision.get("timm_pool") not in ("abs_attn", "rot_attn"):
        return Look(embed=_timm, see=_see_timm, fixed=config.size)
    return Look(embed=_refuse, see=_refuse, fixed=config.size)


def _refuse(visual: nn.Module, images: Tensor) -> NoReturn:
    raise InputError(f"{type(visual).__name__} with attentional pooling has no embeddings of cells; use another CLIP")


def _resnet(visual: nn.Module, images: Tensor) -> Tensor:
    """The attention pool's values, projected, at every cell."""
    pool = visual.attnpool
    return pool.c_proj(pool.v_proj(_resnet_map(visual, images).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def _see_resnet(visual: nn.Module, images: Tensor) -> Features:
    """The last stage's map and the attention pool's result, positions interpolated to the grid."""
    x, pool = _resnet_map(visual, images), visual.attnpool
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    positions = _positions(pool.positional_embedding, (side, side), x.shape[-2], x.shape[-1])
    summary = torch.func.functional_call(pool, {"positional_embedding": positions}, (x,))
    return Features(maps=(x,), summary=summary)


def _resnet_map(visual: nn.Module, images: Tensor) -> Tensor:
    """The last stage's [B, C, h, w]."""
    x = visual.stem(images)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    return x


def _vit(visual: nn.Module, images: Tensor) -> Tensor:
    """The last block with every token attending to itself alone."""
    x, grid = _vit_tokens(visual, images)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    alone = torch.full((x.shape[1], x.shape[1]), float("-inf"), device=x.device).fill_diagonal_(0)
    x = visual.ln_post(last(x, attn_mask=alone)[:, 1:]) @ visual.proj
    return x.transpose(1, 2).unflatten(2, grid)


def _see_vit(visual: nn.Module, images: Tensor) -> Features:
    """The last block's tokens, normalised, and what the tower pools of them."""
    x, grid = _vit_tokens(visual, images)
    x = visual.transformer(x)
    known = visual.ln_post(x)
    if visual.pool_type == "tok":
        summary = known[:, 0]
    elif visual.final_ln_after_pool:
        summary = visual.ln_post(x[:, 1:].mean(1))
    else:
        summary = known[:, 1:].mean(1)
    return Features(maps=(known[:, 1:].transpose(1, 2).unflatten(2, grid),), summary=summary)


def _vit_tokens(visual: nn.Module, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """What the first block is given [B, n, C], positions interpolated to the grid of h x w cells, and h, w."""
    x = visual.conv1(images)  # [B, C, h, w]
    h, w = x.shape[-2:]
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], dim=1)  # [B, n, C]
    return visual.ln_pre(x + _positions(visual.positional_embedding, visual.grid_size, h, w)), (h, w)


def _positions(embedding: Tensor, grid: tuple[int, int], h: int, w: int) -> Tensor:
    """A position embedding [n, C], of the whole and of a grid of cells, for a grid of h x w cells."""
    if grid == (h, w):
        return embedding
    cells = embedding[1:].unflatten(0, grid).permute(2, 0, 1).unsqueeze(0)
    cells = F.interpolate(cells, size=(h, w), mode="bicubic", antialias=True)
    return torch.cat([embedding[:1], cells[0].flatten(1).T])


def _timm(visual: nn.Module, images: Tensor) -> Tensor:
    """timm's pooling and open_clip's projection, for each cell as if the picture were that cell."""
    x = visual.trunk.forward_features(images)
    if x.ndim == 4:  # a convolutional tower's map, else a transformer's tokens [B, n, C]: prefix tokens, then cells
        b, _, h, w = x.shape
        pictures = x.permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None]  # [B h w, C, 1, 1]
    else:
        h, w = visual.trunk.patch_embed.grid_size
        b, prefix = len(x), x.shape[1] - h * w
        pictures = x[:, prefix:].flatten(0, 1).unsqueeze(1).expand(-1, prefix + 1, -1)
    cells = visual.head(visual.trunk.forward_head(pictures))  # [B h w, D]
    return cells.unflatten(0, (b, h, w)).permute(0, 3, 1, 2)


def _see_timm(visual: nn.Module, images: Tensor) -> Features:
    """timm's own map, and its pooling without a classifier."""
    x = visual.trunk.forward_features(images)
    summary = visual.trunk.forward_head(x, pre_logits=True)
    if x.ndim != 4:
        grid = visual.trunk.patch_embed.grid_size
        x = x[:, x.shape[1] - grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)
    return Features(maps=(x,), summary=summary)
