"""A CLIP's or a SigLIP's own head on a trunk of `transformers`.

Axis letters: B images, C channels, h x w cells, n tokens, H x W pixels, D embedding width, M regions of all images
together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.errors import InputError
from vfmerge.pixels import resize

from ..text_aligned.own import Projection, ProjectionHead, within
from ..text_aligned.regions import mean_under
from ..transformers_vision.families import divide
from ..transformers_vision.trunk import Trunk

Alone = Callable[[Trunk, Tensor], Tensor]
"""As `ProjectionHead.alone`."""


class Product(Projection):
    """CLIP's: a matrix after the class token."""

    regional = False

    def __init__(self, matrix: nn.Linear) -> None:
        super().__init__()
        self.matrix = matrix

    def embed(self, features: Features) -> Tensor:
        embedding: Tensor = self.matrix(self.summarise(features))
        return embedding

    def summarise(self, features: Features) -> Tensor:
        assert features.summary is not None
        return features.summary

    def cells(self, alone: Tensor) -> Tensor:
        found: Tensor = self.matrix(alone.permute(0, 2, 3, 1))
        return found.permute(0, 3, 1, 2)

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> NoReturn:
        raise InputError("model: the features of a ViT alone have no embeddings of regions; use a CLIP of convolutions")


class Pool(Projection):
    """SigLIP's: attention pools all cells (arXiv 2303.15343, section 3); of a cell, that one alone."""

    regional = True

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def embed(self, features: Features) -> Tensor:
        embedding: Tensor = self.pool(features.maps[-1].flatten(2).transpose(1, 2))
        return embedding

    def summarise(self, features: Features) -> Tensor:
        return self.embed(features)

    def cells(self, alone: Tensor) -> Tensor:
        x = alone.permute(0, 2, 3, 1)  # [B, h, w, C]
        found: Tensor = self.pool(x.flatten(0, 2).unsqueeze(1))
        return found.unflatten(0, x.shape[:3]).permute(0, 3, 1, 2)

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        """The mean of the unit embeddings of the cells under each mask."""
        return mean_under(F.normalize(self.cells(features.maps[-1]).float(), dim=1), masks, owner)


class OwnHead(ProjectionHead):
    """Features of its own trunk -> the library's own embeddings."""

    def __init__(
        self, text: nn.Module, projection: Projection, *, alone: Alone, embedding: int, size: int, stride: int
    ) -> None:
        """alone: `values` or `cells_seen`, whichever suits the projection."""
        super().__init__(text, projection, embedding=embedding, size=(size, size), stride=stride)
        self._alone = alone

    def fit(self, trunk: nn.Module, images: Tensor) -> Tensor:
        height, width = (max(1, round(side / self.stride)) * self.stride for side in images.shape[-2:])
        return images if images.shape[-2:] == self.size else resize(images, (height, width))

    def alone(self, trunk: nn.Module, images: Tensor) -> Tensor:
        return self._alone(within(trunk, Trunk), images)


def values(trunk: Trunk, images: Tensor) -> Tensor:
    """Of a CLIP, whose last layer's attention ends in the class token: [B, C, h, w]."""
    model, images = trunk.model, trunk.normalise(images)
    x = model.pre_layrnorm(model.embeddings(images, interpolate_pos_encoding=True))  # [B, n, C]
    *layers, last = model.encoder.layers
    for layer in layers:
        x = layer(x, None)
    x = x + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(x)))
    x = x + last.mlp(last.layer_norm2(x))
    return divide(model, images, model.post_layernorm(x)).maps[-1]


def cells_seen(trunk: Trunk, images: Tensor) -> Tensor:
    """Of a SigLIP, whose head attends: the map that it attends to, [B, C, h, w]."""
    seen: Features = trunk(images)
    return seen.maps[-1]
