"""A CLIP's own head on its own trunk: what leads from its features into the space of texts, and its text tower.

Axis letters: B images, C channels, h x w cells, n tokens, H x W pixels, D embedding width, M regions of all images
together.
"""

from __future__ import annotations

import abc
from typing import NoReturn

import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.errors import InputError
from vfmerge.model import SharedTrunk
from vfmerge.pixels import resize

from ..text_aligned.aligned import TextAligned
from ..text_aligned.regions import mean_under
from ..transformers_vision.families import divide
from ..transformers_vision.trunk import Trunk


class Projection(nn.Module, abc.ABC):
    """The part of an image tower that its trunk leaves out.

    regional: whether there are `regions`.
    """

    regional: bool

    @abc.abstractmethod
    def embed(self, features: Features) -> Tensor:
        """Embeddings of the images [B, D]."""

    @abc.abstractmethod
    def summarise(self, features: Features) -> Tensor:
        """The last there is of an image before a linear projection, for probes (arXiv 2103.00020, appendix A.3)."""

    @abc.abstractmethod
    def cells(self, trunk: Trunk, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [0, 1]. Embeddings of cells [B, D, h, w], as if each were all there was."""

    @abc.abstractmethod
    def regions(self, features: Features, *, masks: Tensor, owner: Tensor) -> Tensor:
        """Embeddings [M, D] of what lies under masks, which are as in `TextAligned.regions`.

        Raises InputError where the trunk's features alone do not give them.
        """


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

    def cells(self, trunk: Trunk, images: Tensor) -> Tensor:
        """The last attention sees each cell alone, so that its value is its result.

        MaskCLIP (Extract Free Dense Labels from CLIP, arXiv 2112.01071, section 3.3).
        """
        model, images = trunk.model, trunk.normalise(images)
        x = model.pre_layrnorm(model.embeddings(images, interpolate_pos_encoding=True))  # [B, n, C]
        *layers, last = model.encoder.layers
        for layer in layers:
            x = layer(x, None)
        x = x + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(x)))
        x = x + last.mlp(last.layer_norm2(x))
        return divide(model, images, self.matrix(model.post_layernorm(x))).maps[-1]

    def regions(self, features: Features, *, masks: Tensor, owner: Tensor) -> NoReturn:
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

    def cells(self, trunk: Trunk, images: Tensor) -> Tensor:
        return self._each(trunk(images))

    def regions(self, features: Features, *, masks: Tensor, owner: Tensor) -> Tensor:
        """The mean of the unit embeddings of the cells under each mask."""
        return mean_under(F.normalize(self._each(features).float(), dim=1), masks, owner)

    def _each(self, features: Features) -> Tensor:
        """Embeddings of the cells [B, D, h, w]."""
        x = features.maps[-1].permute(0, 2, 3, 1)  # [B, h, w, C]
        alone: Tensor = self.pool(x.flatten(0, 2).unsqueeze(1))
        return alone.unflatten(0, x.shape[:3]).permute(0, 3, 1, 2)


class OwnHead(TextAligned):
    """Features of its own trunk -> the library's own embeddings."""

    def __init__(self, text: nn.Module, projection: Projection, *, embedding: int, size: int, stride: int) -> None:
        super().__init__(text, embedding=embedding, size=(size, size), stride=stride)
        self.projection = projection

    def embed(self, features: Features) -> Tensor:
        return self.projection.embed(features).float()

    def start(self, trunk: nn.Module, parent: TextAligned) -> None:
        """All is the parent's."""
        self.load_state_dict(parent.state_dict())

    @property
    def regional(self) -> bool:
        return self.projection.regional

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        return self.projection.regions(features, masks=masks, owner=owner).float()

    def see(self, trunk: nn.Module, images: Tensor) -> Features:
        seen: Features = trunk(self._fit(images))
        return seen

    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        """The last layer's map, and the summary before its projection."""
        seen = self.see(trunk, images)
        return Features(maps=seen.maps[-1:], summary=self.projection.summarise(seen))

    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        own = trunk.trunk if isinstance(trunk, SharedTrunk) else trunk  # cells go a way that no other head shares
        assert isinstance(own, Trunk)
        return self.projection.cells(own, self._fit(images)).float()

    def _fit(self, images: Tensor) -> Tensor:
        """images at the nearest size that the trunk takes."""
        height, width = (max(1, round(side / self.stride)) * self.stride for side in images.shape[-2:])
        return images if images.shape[-2:] == self.size else resize(images, (height, width))
