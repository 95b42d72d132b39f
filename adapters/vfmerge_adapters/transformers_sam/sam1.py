"""SAM (arXiv 2304.02643): `SamModel` as a trunk that takes any size, and a head that decodes many images' prompts.

Axis letters: B images, C channels, h x w cells, M prompts of all images together, n tokens of a prompt, K masks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamModel
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.features.gather import nearest_map

from ..promptable.head import PromptedHead
from ..promptable.positions import positions
from ..promptable.prompts import Prompts
from .decoding import attend, embed_cells, embed_masks, embed_tokens, nothing, project, require_whole_cells
from .generation import Generation, Normalisation, require, settings, spelt_out

PARTS = {
    "vision_config": SamVisionConfig,
    "prompt_encoder_config": SamPromptEncoderConfig,
    "mask_decoder_config": SamMaskDecoderConfig,
}
_TIED = "shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"


class Sam1(Generation):
    """The shape of a `SamModel`."""

    normalisation = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    padded = True

    def __init__(self, given: Mapping[str, Any], *, source: str) -> None:
        parts = {name: settings(kind, given, name=name, source=source) for name, kind in PARTS.items()}
        self.config = SamConfig(**parts)
        vision, prompts, decoder = (getattr(self.config, name) for name in PARTS)
        widths = {vision.output_channels, prompts.hidden_size, decoder.hidden_size, 2 * vision.num_pos_feats}
        require(len(widths) == 1, f"its neck, prompts and decoder are {sorted(widths)} channels wide", source=source)

    @property
    def side(self) -> int:
        return int(self.config.vision_config.image_size)

    @property
    def features(self) -> FeatureSpec:
        vision = self.config.vision_config
        return FeatureSpec(
            channels=(vision.hidden_size,), strides=(vision.patch_size,), heads=vision.num_attention_heads
        )

    def plain(self) -> dict[str, Any]:
        return {"model_type": "sam"} | {name: spelt_out(getattr(self.config, name)) for name in PARTS}

    def model(self) -> SamModel:
        return SamModel(copy.deepcopy(self.config))

    def names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file holds the tied embedding under one name or both."""
        known = [tensors[name] for name in _TIED if name in tensors]
        return dict.fromkeys(_TIED, known[0]) | dict(tensors) if known else dict(tensors)

    def trunk(self, model: nn.Module, *, normalisation: Normalisation) -> nn.Module:
        return Trunk(model.vision_encoder, normalisation=normalisation)

    def own_head(self, model: nn.Module) -> PromptedHead:
        return Head(model, level=0, side=self.side)

    def head(self, features: FeatureSpec) -> PromptedHead:
        """The neck's first convolution fits itself to the map whose cells are nearest to the parent's in size."""
        config = copy.deepcopy(self.config)
        level = nearest_map(features, config.vision_config.patch_size)
        config.vision_config.hidden_size = features.channels[level]
        config.vision_config.num_hidden_layers = 0
        return Head(SamModel(config), level=level, side=features.fit(self.side))


class Trunk(nn.Module):
    """SAM's image encoder without its neck; keeps the parameter names of `SamVisionEncoder`."""

    def __init__(self, encoder: nn.Module, *, normalisation: Normalisation) -> None:
        super().__init__()
        self.patch_embed = encoder.patch_embed
        self.pos_embed = encoder.pos_embed
        self.layers = encoder.layers
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. Gives one map [B, C, h, w]. Raises InputError unless cells fill H and W."""
        project = self.patch_embed.projection  # the library's own patch embedding refuses all sizes but one
        require_whole_cells(images, stride=project.stride[0])
        x = project((images - self.mean) / self.std).permute(0, 2, 3, 1)  # [B, h, w, C]
        if self.pos_embed is not None:
            x = x + positions(self.pos_embed, x.shape[1], x.shape[2])
        for layer in self.layers:
            x = layer(x)
        return Features(maps=(x.permute(0, 3, 1, 2),))


class Head(PromptedHead):
    """SAM's neck, prompt encoder (frozen) and mask decoder. level: which of the trunk's maps it looks at."""

    def __init__(self, model: nn.Module, *, level: int, side: int) -> None:
        super().__init__(side=side)
        self.level = level
        self.neck = model.vision_encoder.neck
        self.prompt_encoder = model.prompt_encoder.requires_grad_(False)
        self.mask_decoder = model.mask_decoder

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.respond(features, batch)

    def embed(self, features: Features) -> tuple[Tensor, ...]:
        return (self.neck(features.maps[self.level].permute(0, 2, 3, 1)),)

    def decode(self, maps: tuple[Tensor, ...], prompts: Prompts, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
        encoder, decoder, (embedding,) = self.prompt_encoder, self.mask_decoder, maps
        if not prompts.owner.shape[0]:
            return nothing(maps, count=decoder.num_mask_tokens)
        h, w = embedding.shape[-2:]
        places = encoder.shared_embedding
        kinds = torch.cat([each.weight for each in (encoder.not_a_point_embed, *encoder.point_embed)])
        sparse = embed_tokens(places, kinds, prompts, frame)
        asked = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(sparse.shape[0], -1, -1)
        source = embedding[prompts.owner] + embed_masks(encoder, prompts, h=h, w=w)
        position = embed_cells(places, h=h, w=w, device=embedding.device)
        tokens, source = attend(decoder, torch.cat([asked, sparse], dim=1), source, position)
        upscaled = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(source)))
        upscaled = decoder.activation(decoder.upscale_conv2(upscaled))  # [M, C / 8, 4h, 4w]
        masks = tokens[:, 1 : 1 + decoder.num_mask_tokens]
        return project(decoder, masks, upscaled), decoder.iou_prediction_head(tokens[:, 0])

    def single(self, logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
        return logits[:, :1], ious[:, :1]
