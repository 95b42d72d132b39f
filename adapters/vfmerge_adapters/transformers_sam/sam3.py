"""SAM 3's tracker (arXiv 2511.16719) for single pictures: `Sam3TrackerModel` as its ViT trunk and its head.

Axis letters: B images, C channels, h x w cells, n cells of a picture or window.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Sam3TrackerConfig, Sam3TrackerModel
from transformers.models.sam3.configuration_sam3 import Sam3VisionConfig, Sam3ViTConfig
from transformers.models.sam3_tracker.configuration_sam3_tracker import (
    Sam3TrackerMaskDecoderConfig,
    Sam3TrackerPromptEncoderConfig,
)

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.features.gather import nearest_map

from ..promptable.head import PromptedHead
from .decoding import require_whole_cells
from .fine_head import FineHead
from .generation import Generation, Normalisation, require, settings, spelt_out
from .pyramid import SCALES, Simple
from .sam2 import OF_VIDEO

PARTS = {
    "vision_config": Sam3VisionConfig,
    "prompt_encoder_config": Sam3TrackerPromptEncoderConfig,
    "mask_decoder_config": Sam3TrackerMaskDecoderConfig,
}
_RENAMED = {
    "detector_model.vision_encoder.backbone.": "vision_encoder.backbone.",
    "tracker_neck.": "vision_encoder.neck.",
}


class Sam3(Generation):
    """The shape of a `Sam3TrackerModel`, or of the tracker in a whole SAM 3."""

    normalisation = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    padded = False

    def __init__(self, given: Mapping[str, Any], *, source: str) -> None:
        given = given.get("tracker_config") or given  # a whole SAM 3 has a tracker and a detector
        parts = {name: settings(kind, given, name=name, source=source) for name, kind in PARTS.items()}
        vit = settings(Sam3ViTConfig, parts["vision_config"], name="backbone_config", source=source)
        parts["vision_config"]["backbone_config"] = {"model_type": Sam3ViTConfig.model_type} | vit
        self.config = Sam3TrackerConfig(**parts)
        vision, prompts, decoder = (getattr(self.config, name) for name in PARTS)
        widths = {vision.fpn_hidden_size, prompts.hidden_size, decoder.hidden_size}
        require(len(widths) == 1, f"its neck, prompts and decoder are {sorted(widths)} channels wide", source=source)
        scales = tuple(vision.scale_factors)
        require(scales[:3] == SCALES, f"its pyramid's scales are {scales}", source=source)

    @property
    def side(self) -> int:
        return int(self.config.prompt_encoder_config.image_size)

    @property
    def features(self) -> FeatureSpec:
        vit = self.config.vision_config.backbone_config
        return FeatureSpec(channels=(vit.hidden_size,), strides=(vit.patch_size,), heads=vit.num_attention_heads)

    def plain(self) -> dict[str, Any]:
        return {"model_type": "sam3_tracker"} | {name: spelt_out(getattr(self.config, name)) for name in PARTS}

    def model(self) -> nn.Module:
        return Sam3TrackerModel(copy.deepcopy(self.config))

    def names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's names are those of a whole SAM 3, whose detector owns the image encoder."""
        renamed = {}
        for name, tensor in tensors.items():
            new = name.removeprefix("tracker_model.")
            for old, wanted in _RENAMED.items():
                new = new.replace(old, wanted) if new.startswith(old) else new
            if not new.startswith((*OF_VIDEO, "detector_model.")):
                renamed[new] = tensor
        return renamed

    def trunk(self, model: nn.Module, *, normalisation: Normalisation) -> nn.Module:
        return Trunk(model.vision_encoder.backbone, normalisation=normalisation)

    def own_head(self, model: nn.Module) -> PromptedHead:
        return self._head(model, level=0, side=self.side)

    def head(self, features: FeatureSpec) -> PromptedHead:
        """The pyramid's first convolutions fit the map whose cells are nearest to the parent's in size."""
        config = copy.deepcopy(self.config)
        level = nearest_map(features, self.features.strides[0])
        config.vision_config.backbone_config.hidden_size = features.channels[level]
        config.vision_config.backbone_config.num_hidden_layers = 0
        return self._head(Sam3TrackerModel(config), level=level, side=features.fit(self.side))

    def _head(self, model: nn.Module, *, level: int, side: int) -> PromptedHead:
        """The library's class tells its last map that there is no memory, and drops a fourth: so it is told in vain."""
        layers = model.vision_encoder.neck.fpn_layers
        return FineHead(model, neck=Simple(layers[:3], level=level), side=side, forgetful=len(layers) == 3)


class Trunk(nn.Module):
    """SAM 3's image encoder without its neck; keeps the parameter names of `Sam3ViTModel`."""

    def __init__(self, backbone: nn.Module, *, normalisation: Normalisation) -> None:
        super().__init__()
        self.embeddings = backbone.embeddings
        self.layer_norm = backbone.layer_norm
        self.layers = backbone.layers
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. Gives one map [B, C, h, w]. Raises InputError unless cells fill H and W."""
        stride = self.embeddings.patch_size
        require_whole_cells(images, stride=stride)
        h, w = images.shape[-2] // stride, images.shape[-1] // stride
        x = self.layer_norm(self.embeddings((images - self.mean) / self.std).unflatten(1, (h, w)))  # [B, h, w, C]
        for layer in self.layers:
            x = layer(x) if layer.window_size else _look_around(layer, x)
        return Features(maps=(x.permute(0, 3, 1, 2),))


def _look_around(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer without windows on cells [B, h, w, C]: its own forward knows where they are at one size only."""
    normed = layer.layer_norm1(x)
    rotation = layer.rotary_emb(normed, _places(layer.config, h=x.shape[1], w=x.shape[2]).to(x.device))
    x = x + layer.attention(normed, rotation)[0]
    return x + layer.dropout(layer.mlp(layer.layer_norm2(x)))


def _places(config: Any, *, h: int, w: int) -> Tensor:
    """Columns and rows of cells [n, 2], in cells of a window stretched over the picture, as the library counts them."""
    rows, columns = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=1) * config.window_size
