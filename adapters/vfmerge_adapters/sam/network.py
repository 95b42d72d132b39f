"""SAM as vfmerge uses it: a trunk that takes any size, and heads that decode many images' prompts at once.

Both are the parts of a `segment_anything.modeling.Sam`, called one by one: its own forward runs under `no_grad`, takes
one image's prompts at a time and one image size only.

Axis letters: B images, C channels, h x w cells, M prompts of all images together, n tokens of a prompt, K masks.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.errors import InputError
from vfmerge.features.head import Answer
from vfmerge.features.standard import Plain, Standard

from ..promptable.head import PromptedHead
from ..promptable.positions import centres, locate, positions
from ..promptable.prompts import Prompts
from .approach import Approach
from .geometry import PIXEL_MEAN, PIXEL_STD
from .pyramid_neck import PyramidNeck

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT, Sam


class Trunk(nn.Module):
    """SAM's image encoder without its neck; keeps the parameter names of `ImageEncoderViT`."""

    def __init__(self, encoder: ImageEncoderViT) -> None:
        super().__init__()
        assert encoder.pos_embed is not None
        self.patch_embed = encoder.patch_embed
        self.pos_embed = encoder.pos_embed
        self.blocks = encoder.blocks
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1) / 255, persistent=False)

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. Gives one map [B, C, h, w]. Raises InputError unless cells fill H and W."""
        height, width = images.shape[-2:]
        stride = self.patch_embed.proj.stride[0]
        if height % stride or width % stride:  # its edge would not be seen
            raise InputError(f"size: {height} x {width} is no multiple of the trunk's {stride} pixels a cell; mend it")
        x = self.patch_embed((images - self.mean) / self.std)  # [B, h, w, C]
        x = x + positions(self.pos_embed, x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        return Features(maps=(x.permute(0, 3, 1, 2),))


class Head(PromptedHead, abc.ABC):
    """SAM's neck, prompt encoder and mask decoder; names as in `Sam`, the neck's without `image_encoder.`.

    Its side is SAM's own, or the nearest that the trunk takes.
    """

    def __init__(
        self, sam: Sam, *, spec: FeatureSpec | None = None, approach: Approach | PyramidNeck | None = None
    ) -> None:
        """spec: what the trunk gives, SAM's own where it is left out. approach: the way from there to SAM's neck."""
        patch = sam.image_encoder.patch_embed.proj.stride[0]
        spec = spec or FeatureSpec(channels=(sam.image_encoder.neck[0].in_channels,), strides=(patch,))
        super().__init__(side=spec.fit(sam.image_encoder.img_size))
        self.approach = approach or Approach(spec, patch=patch)
        self.neck = sam.image_encoder.neck
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder

    def embed(self, features: Features) -> tuple[Tensor, ...]:
        """The image embedding, the neck's output [B, C, h, w], of cells as large as SAM's patches; nothing finer."""
        return (self.neck(self.approach(features)),)

    def single(self, logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
        return logits[:, :1], ious[:, :1]

    def decode(self, maps: tuple[Tensor, ...], prompts: Prompts, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
        (embedding,) = maps
        decoder = self.mask_decoder
        queries = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens, upscaled = self.consult(decoder, queries, embedding=embedding, prompts=prompts, frame=frame)
        weights = torch.stack([mlp(tokens[:, 1 + k]) for k, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
        masks = torch.einsum("mkc,mchw->mkhw", weights, upscaled)
        return masks, decoder.iou_prediction_head(tokens[:, 0])

    def consult(
        self, decoder: nn.Module, queries: Tensor, *, embedding: Tensor, prompts: Prompts, frame: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What queries [q, C] learn, in a decoder, of prompts and of the embedding [B, C, h, w] of their images.

        decoder: this head's, or another that has a `transformer` and `output_upscaling` like it. prompts, frame: as in
        `decode`. Returns tokens [M, q + n, C], the queries' first, and the upscaled embedding [M, C / 8, 4h, 4w].
        """
        h, w = embedding.shape[-2:]
        sparse = self._embed_tokens(prompts, frame)
        source = embedding[prompts.owner] + self._embed_masks(prompts, h, w)  # [M, C, h, w]
        position = self._locate(centres(h, w, device=source.device)).permute(2, 0, 1).expand_as(source)
        tokens = torch.cat([queries.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        tokens, source = decoder.transformer(source, position, tokens)
        return tokens, decoder.output_upscaling(source.transpose(1, 2).unflatten(2, (h, w)))

    def _embed_tokens(self, prompts: Prompts, frame: tuple[int, int]) -> Tensor:
        encoder = self.prompt_encoder
        size = torch.tensor([frame[1], frame[0]], device=prompts.coords.device)
        place = self._locate((prompts.coords + 0.5) / size)  # pixel centres, as SAM
        kinds = torch.stack([encoder.not_a_point_embed.weight[0], *(e.weight[0] for e in encoder.point_embeddings)])
        return place * (prompts.labels >= 0).unsqueeze(-1) + kinds[prompts.labels + 1]  # [M, n, C]

    def _locate(self, places: Tensor) -> Tensor:
        return locate(self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix, places)

    def _embed_masks(self, prompts: Prompts, h: int, w: int) -> Tensor:
        encoder = self.prompt_encoder
        if prompts.masks is not None:
            return encoder.mask_downscaling(prompts.masks.to(encoder.no_mask_embed.weight.dtype))
        return encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(prompts.owner.shape[0], -1, h, w)


class MaskHead(Head):
    """Answers with masks."""

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.respond(features, batch)


class ParentHead(Head):
    """Gives the parent's image embedding as target."""

    def forward(self, features: Features, batch: Batch) -> Tensor:
        return self.embed(features)[0]


class EmbeddingHead(Head):
    """Answers with the image embedding; prompt encoder and mask decoder stay the parent's.

    standard: the scale on which embeddings are compared. What the neck gives is in the parent's own space.
    """

    def __init__(
        self,
        sam: Sam,
        *,
        spec: FeatureSpec | None = None,
        approach: Approach | PyramidNeck | None = None,
        standard: Standard | None = None,
    ) -> None:
        super().__init__(sam, spec=spec, approach=approach)
        self.standard = standard or Plain()
        self.prompt_encoder.requires_grad_(False)
        self.mask_decoder.requires_grad_(False)

    def forward(self, features: Features, batch: Batch) -> Answer:
        return Answer(parts={"cells": self.embed(features)[0]}, standards={"cells": self.standard})
