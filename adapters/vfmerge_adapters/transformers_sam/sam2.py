"""SAM 2 (arXiv 2408.00714) for single pictures: `Sam2Model` as its Hiera trunk (arXiv 2306.00989) and its head.

Axis letters: B images, C channels, h x w cells.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2Config, Sam2Model
from transformers.models.sam2.configuration_sam2 import (
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)
from transformers.models.sam3.modeling_sam3 import Sam3FPNLayer

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.features.gather import nearest_map

from ..promptable.head import PromptedHead
from .decoding import require_whole_cells
from .fine_head import FineHead
from .generation import Generation, Normalisation, require, settings, spelt_out
from .pyramid import SCALES, Simple, TopDown

PARTS = {
    "vision_config": Sam2VisionConfig,
    "prompt_encoder_config": Sam2PromptEncoderConfig,
    "mask_decoder_config": Sam2MaskDecoderConfig,
}
OF_VIDEO = ("memory_", "mask_downsample", "object_pointer_proj", "temporal_positional_encoding_projection_layer")
OF_VIDEO += ("no_memory_positional_encoding", "no_object_pointer", "occlusion_spatial_embedding_parameter")
"""Names of tensors that only a video needs."""


class Sam2(Generation):
    """The shape of a `Sam2Model`, or of what a `Sam2VideoModel` does with a single picture."""

    normalisation = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    padded = False

    def __init__(self, given: Mapping[str, Any], *, source: str) -> None:
        parts = {name: settings(kind, given, name=name, source=source) for name, kind in PARTS.items()}
        hiera = settings(Sam2HieraDetConfig, parts["vision_config"], name="backbone_config", source=source)
        parts["vision_config"]["backbone_config"] = {"model_type": Sam2HieraDetConfig.model_type} | hiera
        self.config = Sam2Config(**parts)
        vision, prompts, decoder = (getattr(self.config, name) for name in PARTS)
        widths = {vision.fpn_hidden_size, prompts.hidden_size, decoder.hidden_size}
        require(len(widths) == 1, f"its neck, prompts and decoder are {sorted(widths)} channels wide", source=source)
        channels, strides = self.features.channels, self.features.strides
        listed = tuple(vision.backbone_channel_list[::-1])
        require(channels == listed, f"its neck is for maps of {listed} channels, not {channels}", source=source)
        require(_halve(strides) and vision.num_feature_levels == 3, f"its maps' strides are {strides}", source=source)

    @property
    def side(self) -> int:
        return int(self.config.prompt_encoder_config.image_size)

    @property
    def features(self) -> FeatureSpec:
        hiera = self.config.vision_config.backbone_config
        pools = [min(stage, hiera.num_query_pool_stages) for stage in range(len(hiera.embed_dim_per_stage))]
        return FeatureSpec(
            channels=tuple(hiera.embed_dim_per_stage),
            strides=tuple(hiera.patch_stride[0] * hiera.query_stride[0] ** pool for pool in pools),
            heads=hiera.num_attention_heads_per_stage[-1],
        )

    def plain(self) -> dict[str, Any]:
        return {"model_type": "sam2"} | {name: spelt_out(getattr(self.config, name)) for name in PARTS}

    def model(self) -> nn.Module:
        return Sam2Model(copy.deepcopy(self.config))

    def names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(OF_VIDEO)}

    def trunk(self, model: nn.Module, *, normalisation: Normalisation) -> nn.Module:
        return Trunk(model.vision_encoder.backbone, normalisation=normalisation)

    def own_head(self, model: nn.Module) -> PromptedHead:
        return FineHead(model, neck=TopDown(model.vision_encoder.neck), side=self.side, forgetful=True)

    def head(self, features: FeatureSpec) -> PromptedHead:
        """On a trunk with as many maps, each half of the one before, SAM 2's own neck, as wide as they are.

        Else a pyramid of one map, that whose cells are nearest in size to those that SAM 2's decoder attends to.
        """
        config = copy.deepcopy(self.config)
        side = features.fit(self.side)
        alike = len(features.channels) == len(self.features.channels) and _halve(features.strides)
        stages = len(self.features.channels)
        config.vision_config.backbone_config.blocks_per_stage = [0] * stages
        if alike:
            config.vision_config.backbone_channel_list = list(features.channels[::-1])
            model = Sam2Model(config)
            return FineHead(model, neck=TopDown(model.vision_encoder.neck), side=side, forgetful=True)
        level = nearest_map(features, self.features.strides[2])
        width = config.vision_config.fpn_hidden_size
        layers = [Sam3FPNLayer(features.channels[level], width, scale) for scale in SCALES]
        return FineHead(Sam2Model(config), neck=Simple(layers, level=level), side=side, forgetful=True)


class Trunk(nn.Module):
    """SAM 2's image encoder without its neck; keeps the parameter names of `Sam2HieraDetModel`."""

    def __init__(self, backbone: nn.Module, *, normalisation: Normalisation) -> None:
        super().__init__()
        self.patch_embed = backbone.patch_embed
        self.pos_embed = backbone.pos_embed
        self.pos_embed_window = backbone.pos_embed_window
        self.blocks = backbone.blocks
        self._ends = frozenset(backbone.stage_ends)
        self._stride = _coarsest(backbone.config)
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. Gives a map of every stage; raises InputError unless cells fill H and W."""
        require_whole_cells(images, stride=self._stride)
        x = self.patch_embed((images - self.mean) / self.std)  # [B, h, w, C]
        x = x + self._position(x.shape[1], x.shape[2])
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self._ends:
                maps.append(x.permute(0, 3, 1, 2))
        return Features(maps=tuple(maps))

    def _position(self, h: int, w: int) -> Tensor:
        """The position embedding at h x w cells: one of the whole picture, enlarged, and one repeated in each window.

        arXiv 2311.05613. The library's own repeats whole windows only, which is the same where windows fill the map.
        """
        whole = F.interpolate(self.pos_embed, size=(h, w), mode="bicubic", align_corners=False)
        side = self.pos_embed_window.shape[-1]
        repeated = self.pos_embed_window.tile(1, 1, -(-h // side), -(-w // side))[..., :h, :w]
        return (whole + repeated).permute(0, 2, 3, 1)


def _coarsest(config: Any) -> int:
    return int(config.patch_stride[0] * config.query_stride[0] ** config.num_query_pool_stages)


def _halve(strides: tuple[int, ...]) -> bool:
    """Whether there are three maps or more, each half as fine as the one before."""
    return len(strides) >= 3 and all(2 * fine == coarse for fine, coarse in itertools.pairwise(strides))
