"""Any image tower of open_clip as trunk and projection, and what the trunk promises. Imports torch where it must."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfmerge.adapter import FeatureSpec

from .config import Config

if TYPE_CHECKING:
    from torch import nn

    from ..text_aligned.own import Projection
    from .trunk import Trunk


def promise(config: Config) -> FeatureSpec:
    """What the trunk gives. timm is asked, by a tower without memory, for what its own architectures give."""
    vision = config.model_cfg.vision_cfg
    width = vision.get("width", 768)  # open_clip's own defaults
    if config.kind == "resnet":
        stages = (4 * width, 8 * width, 16 * width, 32 * width)
        return FeatureSpec(channels=stages, strides=(4, 8, 16, 32), summary=stages[-1])
    if config.kind == "vit":
        heads, stride = width // vision.get("head_width", 64), vision.get("patch_size", 16)
        return FeatureSpec(channels=(width,), strides=(stride,), summary=width, heads=heads)
    import torch

    from . import towers

    with torch.device("meta"):
        return cut(towers.image_tower(config), config=config)[0].spec


def cut(visual: nn.Module, *, config: Config) -> tuple[Trunk, Projection]:
    """open_clip's image tower as trunk and projection, which share nothing; it is taken apart."""
    from . import resnet, timm_tower, vit

    if config.kind == "timm":
        return timm_tower.cut(visual, config=config)
    part = resnet if config.kind == "resnet" else vit
    return part.cut(visual, config=config, spec=promise(config))
