"""The head of SAM 2 and SAM 3 for single pictures: a decoder that sees two finer maps than the one it attends to.

Axis letters: B images, C channels, h x w cells, M prompts of all images together, n tokens of a prompt, K masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vfmerge.adapter import Batch, Features

from ..promptable.head import PromptedHead
from ..promptable.prompts import Prompts, alike
from .decoding import attend, embed_cells, embed_masks, embed_tokens, nothing, project


class FineHead(PromptedHead):
    """Neck, prompt encoder (frozen) and mask decoder of a `Sam2Model` or `Sam3TrackerModel`.

    The decoder's judgement whether the object is there at all, which a video needs, is kept as it is.
    forgetful: whether the map that is attended to is told that there is no memory of earlier frames.
    """

    alike = True

    def __init__(self, model: nn.Module, *, neck: nn.Module, side: int, forgetful: bool) -> None:
        super().__init__(side=side)
        self.neck = neck
        self.prompt_encoder = model.prompt_encoder.requires_grad_(False)
        self.places = model.shared_image_embedding.requires_grad_(False)
        self.mask_decoder = model.mask_decoder
        self.mask_decoder.pred_obj_score_head.requires_grad_(False)
        self.no_memory = model.no_memory_embedding if forgetful else None

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.respond(features, batch)

    def embed(self, features: Features) -> tuple[Tensor, ...]:
        finest, finer, embedding = self.neck(features)
        if self.no_memory is not None:
            embedding = embedding + self.no_memory.reshape(1, -1, 1, 1)
        return self.mask_decoder.conv_s0(finest), self.mask_decoder.conv_s1(finer), embedding

    def decode(self, maps: tuple[Tensor, ...], prompts: Prompts, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Prompts of as many tokens are decoded together: a token that is none, beside others, is attended to."""
        if prompts.alike:
            return self._decode_alike(maps, prompts, frame)
        parts = alike(prompts)
        if not parts:
            return nothing(maps, count=self.mask_decoder.num_mask_tokens)
        logits, ious = zip(*(self._decode_alike(maps, each, frame) for _, each in parts), strict=True)
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return torch.cat(logits)[order], torch.cat(ious)[order]

    def single(self, logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
        """The single mask where it is stable, else the best believed of the others, where the parent was made so.

        Stable: moving the threshold by a little either way, and dividing the areas, gives nearly 1.
        """
        decoder = self.mask_decoder
        if not decoder.dynamic_multimask_via_stability:
            return logits[:, :1], ious[:, :1]
        delta = decoder.dynamic_multimask_stability_delta
        sure, likely = ((logits[:, 0] > limit).flatten(1).sum(1).float() for limit in (delta, -delta))
        stability = torch.where(likely > 0, sure / likely, 1.0)
        best = torch.where(stability >= decoder.dynamic_multimask_stability_thresh, 0, ious[:, 1:].argmax(1) + 1)
        row = torch.arange(len(best), device=best.device)
        return logits[row, best].unsqueeze(1), ious[row, best].unsqueeze(1)

    def _decode_alike(
        self, maps: tuple[Tensor, ...], prompts: Prompts, frame: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        finest, finer, embedding = (each[prompts.owner] for each in maps)
        encoder, decoder = self.prompt_encoder, self.mask_decoder
        h, w = embedding.shape[-2:]
        kinds = torch.cat([encoder.not_a_point_embed.weight, encoder.point_embed.weight])
        sparse = embed_tokens(encoder.shared_embedding, kinds, prompts, frame)
        asked = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([asked.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        source = embedding + embed_masks(encoder, prompts, h=h, w=w)
        position = embed_cells(self.places, h=h, w=w, device=embedding.device)
        tokens, source = attend(decoder, tokens, source, position)
        upscaled = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(source) + finer))
        upscaled = decoder.activation(decoder.upscale_conv2(upscaled) + finest)  # [M, C / 8, 4h, 4w]
        masks = tokens[:, 2 : 2 + decoder.num_mask_tokens]
        return project(decoder, masks, upscaled), decoder.iou_prediction_head(tokens[:, 1])
