"""CLIP, SigLIP and their kin: any model of `open_clip`, as a parent whose meaning a trunk can learn.

This module imports no torch until one of its methods needs it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import AuxiliaryAdapter, Batch, Features, FeatureSpec
from vfmerge.errors import InputError, one_line

from .config import FILE, WEIGHTS, Config, builtin, read_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import ImageText
    from vfmerge.model import Network

__all__ = ["Features", "OpenCLIP"]

_TINY = Path(__file__).parent.parent / "tiny" / "clip"


class OpenCLIP(AuxiliaryAdapter):
    """A CLIP from `open_clip`, taught by the distance of image embeddings alone (SAM-CLIP, arXiv 2310.15308)."""

    def __init__(
        self,
        *,
        model: str = "ViT-B-16",
        pretrained: str | None = None,
        checkpoint: str | None = None,
        config: dict[str, Any] | None = None,
        random: bool = False,
        quickgelu: bool | None = None,
        layers: int = 3,
        hidden: tuple[int, int] | None = None,
        cells: int = 32,
        size: int | None = None,
        licence: str | None = None,
    ) -> None:
        """Which parent, with which weights, and the head it is learnt with.

        model: an architecture of open_clip, or `tiny`, the parent of the shapes world that comes with vfmerge.
        pretrained: the tag of published weights, downloaded by open_clip.
        checkpoint: instead, a file of weights, or a folder with `open_clip_config.json` and
            `open_clip_model.safetensors`, which also says the architecture.
        config: instead of `model`, an architecture spelt out as in `open_clip_config.json`.
        random: instead of weights, random ones, the same each time: for dry runs.
        quickgelu: whether the weights need QuickGELU; none takes the tag's word, or the architecture's.
        layers: transformer layers of the head. hidden: widths of its MLP; none is the trunk's own width, twice.
        cells: the most cells a side that the head attends over; a larger map is averaged down first.
        size: side in pixels at which the merged model looks at a picture by default; none is the parent's own size.
        licence: of the weights.
        """
        self._model, self._pretrained = model, pretrained
        self._random, self._quickgelu = random, quickgelu
        self._layers, self._hidden, self._cells, self._size = layers, hidden and tuple(hidden), cells, size
        self._folder = _folder(model, checkpoint)
        self._weights = None if random or pretrained is not None else _weights(self._folder, checkpoint)
        self._declared = self._declare(config)
        self._check(checkpoint, config)
        self.sources = _sources(self._weights, self._folder)
        tiny = self._folder == _TINY and not random
        self.licence = licence or ("Apache-2.0" if tiny else "unknown")

    def portable(self) -> dict[str, Any]:
        return {
            "config": json.loads(self.config.model_dump_json()),
            "layers": self._layers,
            "hidden": None if self._hidden is None else list(self._hidden),
            "cells": self._cells,
            "size": self._size,
            "licence": self.licence,
        }

    def teacher(self) -> Network:
        """Batch -> the image embeddings [B, D], as open_clip's `encode_image` gives them, not normalised."""
        from vfmerge import random, weights
        from vfmerge.model import Network

        from . import tags, towers

        if self._random:
            clip = towers.build(self.config, seed=random.key("open_clip", self.config.model_dump_json()))
        else:
            path = tags.fetch(self._model, self._pretrained) if self._pretrained else self._weights
            if path is None:
                raise InputError("config: a shape without weights cannot teach; add `checkpoint`, or `random: true`")
            clip = towers.build(self.config)
            towers.fill(clip, weights.read(path), source=str(path))
        head = towers.ParentHead(clip.text, size=max(self.config.size))
        return Network(towers.Trunk(clip.visual, config=self.config), head).requires_grad_(False).eval()

    def head(self, features: FeatureSpec) -> nn.Module:
        from . import towers
        from .head import ClipHead

        stride = features.strides[-1]
        own = max(1, round(max(self.config.size) / stride)) * stride
        return ClipHead(
            towers.text_tower(self.config),
            width=features.channels[-1],
            attention_heads=features.heads or _heads(features.channels[-1]),
            layers=self._layers,
            hidden=self._hidden or (features.channels[-1],) * 2,  # chosen here: with the layers, the paper's + 25 %
            embedding=self.config.model_cfg.embed_dim,
            cells=self._cells,
            size=self._size or own,
            stride=stride,
        )

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """The text tower from the parent; each layer from the trunk's last block, where it is such a layer."""
        from .start import copy_last_block

        head.text.load_state_dict(teacher.head.text.state_dict())
        copy_last_block(trunk, head.layers)

    def loss(self, answer: Tensor, target: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Cosine distance of embeddings [B, D], in 0..2. SAM-CLIP, arXiv 2310.15308, equation 1."""
        from vfmerge import losses

        return {"cosine": losses.cosine(answer.float(), target.float())}

    def capability(self, network: Network) -> ImageText:
        from .use import Embedder

        return Embedder(network, config=self.config, folder=self._folder)

    @functools.cached_property
    def config(self) -> Config:
        """The parent's shape and preprocessing, as its weights need them."""
        config = self._declared
        if self._pretrained is not None:
            from . import tags

            config = tags.settle(config, model=self._model, tag=self._pretrained)
        elif self._by_name and self._weights is not None and self._quickgelu is None:
            from . import tags

            config = tags.settle_untagged(config, model=self._model)
        if self._quickgelu is None:
            return config
        shape = config.model_cfg.model_copy(update={"quick_gelu": self._quickgelu})
        return config.model_copy(update={"model_cfg": shape})
