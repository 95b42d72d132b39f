"""timm's own networks: built from a shape, looked through once for what they give, and made a trunk.

Axis letters: B images, C channels, h x w cells, H x W pixels, D summary width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import timm
import torch
from timm.layers import Attention, AttentionRope
from timm.models.eva import EvaAttention
from timm.models.hiera import Hiera
from timm.models.hieradet_sam2 import HieraDet
from torch import Tensor, nn

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.errors import InputError, one_line

from .shape import Colours, Shape

_ATTENTIONS = (Attention, AttentionRope, EvaAttention)
_WITHOUT_NORM = (Hiera, HieraDet)  # refuse to normalise maps: they have no norm before they pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """What is taken from a network. levels: which of its intermediate maps, as timm counts them, finest first."""

    spec: FeatureSpec
    levels: tuple[int, ...]


def build(shape: Shape, *, classes: int = 0) -> nn.Module:
    """timm's model of that shape with random weights. classes: outputs of its classifier; without any it has none.

    It takes any size (`dynamic_img_size`) where timm can have it so. Raises InputError.
    """
    arguments = dict(shape.arguments) | {"num_classes": classes}
    for more in ({"dynamic_img_size": True}, {}):  # not every architecture knows it
        try:
            return timm.create_model(shape.name, **(more | arguments))
        except Exception as error:  # of whichever check the architecture has
            problem = error
    text = f"arguments: timm cannot build {shape.name} so ({problem}); mend them"
    raise InputError(one_line(text)) from problem


@torch.no_grad()
def look(shape: Shape) -> View:
    """What a network of that shape gives, found out without weights: on torch's meta device it takes no memory.

    Of all maps of one stride the last is taken: of a plain ViT that is its last block's, of a pyramid each stage's.
    """
    with torch.device("meta"):
        model = build(shape).eval()
        height, width = shape.size
        try:
            maps, summary = see(model, torch.zeros(1, 3, height, width))
        except Exception as error:  # it has no maps, or no such size: whatever the architecture has against it
            text = f"model: {shape.name} gives no maps and summary at {height} x {width} pixels ({error})"
            raise InputError(one_line(f"{text}; choose another")) from error
        larger = _see_larger(model, maps, height=height, width=width)
    if larger is None and height != width:
        raise InputError(f"arguments.img_size: {shape.name} takes {height} x {width} alone; give it a square")
    pixels = 2 * width if larger else width
    strides = [_stride(pixels, cells=each.shape[-1]) for each in larger or maps]
    last = {stride: level for level, stride in enumerate(strides)}
    levels = tuple(last[stride] for stride in sorted(last))
    spec = FeatureSpec(
        channels=tuple(maps[level].shape[1] for level in levels),
        strides=tuple(sorted(last)),
        summary=None if summary is None else summary.shape[1],
        heads=_heads(model, width=maps[levels[-1]].shape[1]),
        fixed_size=None if larger else width,
    )
    return View(spec=spec, levels=levels)


def see(model: nn.Module, images: Tensor, *, levels: Sequence[int] | None = None) -> tuple[list[Tensor], Tensor | None]:
    """Maps [B, C, h, w] after the model's last norm, and what it pools [B, D], or none where it pools nothing.

    images: [B, 3, H, W], normalised. levels: which maps; all if none are named.
    """
    indices = None if levels is None else list(levels)
    last, maps = model.forward_intermediates(images, indices=indices, norm=not isinstance(model, _WITHOUT_NORM))
    summary = model.forward_head(last, pre_logits=True)
    return maps, summary if summary.dim() == 2 else None


class Trunk(nn.Module):
    """A model of timm without its classifier, with its own normalisation. images in [0, 1] -> Features.

    model: timm's own, with its parameters' names.
    """

    def __init__(self, shape: Shape, *, view: View) -> None:
        super().__init__()
        self.model = build(shape)
        self._name, self._view = shape.name, view
        self.register_buffer("mean", _column(shape.mean), persistent=False)
        self.register_buffer("std", _column(shape.std), persistent=False)

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W]. Raises InputError for a size that the model would not see whole, or not at all.

        The last map is timm's own last (`forward_intermediates`), of a ViT its patch tokens after the last norm. The
        summary is what timm's classifier is given: a class token, a mean, an attention pool.
        """
        self._require_size(images.shape[-2], images.shape[-1])
        maps, summary = see(self.model, (images - self.mean) / self.std, levels=self._view.levels)
        return Features(maps=tuple(maps), summary=summary)

    def _require_size(self, height: int, width: int) -> None:
        side, stride = self._view.spec.fixed_size, self._view.spec.strides[-1]
        if side is not None and (height, width) != (side, side):
            raise InputError(f"size: {height} x {width} does not fit {self._name}, which takes {side} alone; mend it")
        if side is None and (height % stride or width % stride):  # its edge would not be seen
            raise InputError(f"size: {height} x {width} is no multiple of the trunk's {stride} pixels a cell; mend it")


def _see_larger(model: nn.Module, maps: list[Tensor], *, height: int, width: int) -> list[Tensor] | None:
    """The maps of an image that is one coarsest cell taller and twice as wide, or none where there are no more cells.

    maps: those at the model's own height and width.
    """
    cell = max(height // each.shape[-2] for each in maps)
    try:
        larger, _ = see(model, torch.zeros(1, 3, height + cell, 2 * width))
    except Exception:  # its positions or its windows fit one size alone
        return None
    return larger if larger[-1].shape[-1] > maps[-1].shape[-1] else None  # or it brings every image to one size


def _stride(pixels: int, *, cells: int) -> int:
    """Pixels a cell. Where cells do not fill the image they are a power of two: its edge was rounded up."""
    return pixels // cells if pixels % cells == 0 else 2 ** round(math.log2(pixels / cells))


def _heads(model: nn.Module, *, width: int) -> int | None:
    """Attention heads of the last plain block of that width, if there is one."""
    attentions = [each for each in model.modules() if isinstance(each, _ATTENTIONS)]
    fitting = [each.num_heads for each in attentions if each.num_heads * each.head_dim == width]
    return fitting[-1] if fitting else None


def _column(colours: Colours) -> Tensor:
    return torch.tensor(colours).view(3, 1, 1)
