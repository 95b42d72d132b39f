"""What the mask decoders of all generations do, called part by part.

The library's own forward gives either the single mask or those of an ambiguous prompt, wants as many prompts for each
image, and one size of image.

Axis letters: C channels, h x w cells, M prompts of all images together, n tokens of a prompt, K masks.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from torch import Tensor, nn

from vfmerge.errors import InputError

from ..promptable.positions import centres, locate
from ..promptable.prompts import Prompts


def resize(picture: np.ndarray, inner: tuple[int, int]) -> Tensor:
    """A picture, uint8 [H, W, 3], at a height and width, uint8 [3, h, w], as the library's processors make it."""
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)  # where the picture is: devices round differently
    return tv.resize(pixels, list(inner), interpolation=tv.InterpolationMode.BILINEAR, antialias=True)


def require_whole_cells(images: Tensor, *, stride: int) -> None:
    """Raise InputError unless cells of `stride` pixels fill images [B, 3, H, W]."""
    height, width = images.shape[-2:]
    if height % stride or width % stride:  # its edge would not be seen
        text = f"size: {height} x {width} is no multiple of the {stride} pixels a cell of this SAM's trunk"
        raise InputError(f"{text}; mend the stream's size, or give the parent a `size` to teach at")


def embed_tokens(embedding: nn.Module, kinds: Tensor, prompts: Prompts, frame: tuple[int, int]) -> Tensor:
    """Tokens [M, n, C] of points and corners. kinds: what is added for labels -1 (none) to 3 (far corner) [5, C]."""
    size = torch.tensor([frame[1], frame[0]], device=prompts.coords.device)
    place = locate(embedding.positional_embedding, (prompts.coords + 0.5) / size)  # pixel centres
    return place * (prompts.labels >= 0).unsqueeze(-1) + kinds[prompts.labels + 1]


def embed_masks(encoder: nn.Module, prompts: Prompts, *, h: int, w: int) -> Tensor:
    """Rough masks as maps [M, C, h, w], or what stands for none."""
    if prompts.masks is None:
        return encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(prompts.owner.shape[0], -1, h, w)
    masks = prompts.masks.to(encoder.no_mask_embed.weight.dtype)
    if masks.shape[-2:] != (4 * h, 4 * w):
        masks = F.interpolate(masks, size=(4 * h, 4 * w), mode="bilinear", align_corners=False, antialias=True)
    return encoder.mask_embed(masks)


def embed_cells(embedding: nn.Module, *, h: int, w: int, device: torch.device) -> Tensor:
    """Where the cells of a map are [1, C, h, w]."""
    return locate(embedding.positional_embedding, centres(h, w, device=device)).permute(2, 0, 1).unsqueeze(0)


def attend(decoder: nn.Module, tokens: Tensor, source: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [M, n, C] and maps [M, C, h, w] after they attended to each other, in the same shapes."""
    tokens, cells = decoder.transformer(
        point_embeddings=tokens.unsqueeze(1),
        image_embeddings=source,
        image_positional_embeddings=position.expand_as(source),
        attention_similarity=None,
    )
    return tokens.squeeze(1), cells.squeeze(1).transpose(1, 2).unflatten(2, source.shape[-2:])


def project(decoder: nn.Module, tokens: Tensor, upscaled: Tensor) -> Tensor:
    """Mask logits [M, K, 4h, 4w] of mask tokens [M, K, C] and enlarged maps [M, C / 8, 4h, 4w]."""
    mlps = decoder.output_hypernetworks_mlps
    weights = torch.stack([mlp(tokens[:, k]) for k, mlp in enumerate(mlps)], dim=1)
    return torch.einsum("mkc,mchw->mkhw", weights, upscaled)


def nothing(maps: tuple[Tensor, ...], *, count: int) -> tuple[Tensor, Tensor]:
    """Answers to no prompts at all, of `count` masks each, which hang on the maps all the same.

    The library's attention cannot tell how an empty tensor is to be shaped.
    """
    nought, (h, w) = sum(each.sum() for each in maps) * 0, maps[-1].shape[-2:]
    return nought + maps[-1].new_zeros(0, count, 4 * h, 4 * w), nought + maps[-1].new_zeros(0, count)
