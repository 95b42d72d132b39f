"""An image tower of open_clip as a trunk: all of it but what leads into the space of texts.

The cut between trunk and own head, for every family of towers: what projects is the own head's, and so is what attends
to all cells in order to pool them, for it cannot be had without the projection (a ResNet's attention pool) or is the
projection (SigLIP's), and what normalises a pooled map (a ConvNeXt's), since a pooled region goes through it too.
Cells, and a summary that is there anyhow (a class token, or the mean of the cells), are the trunk's: that is what heads
of other parents can share.

Axis letters: B images, C channels, h x w cells, H x W pixels, S summary width.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.errors import InputError
from vfmerge.pixels import resize

from .config import Config


class Trunk(nn.Module, abc.ABC):
    """images in [0, 1] -> Features. Normalises by itself, and takes every size that is a multiple of its stride.

    visual: what is left of open_clip's tower; its parameters keep the names that open_clip's files give them.
    spec: what it gives. A tower that takes one size alone is shown every image at that.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, *, config: Config, spec: FeatureSpec) -> None:
        super().__init__()
        self.visual = visual
        self.spec = spec
        self._own, self._fixed = config.size, is_fixed(config, spec)
        self.register_buffer("mean", torch.tensor(config.preprocess_cfg.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.preprocess_cfg.std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Trunk:
        """As usual, but for batch norms, which keep their statistics: streams of several parents would mix in them."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. Raises InputError for sides that are no multiples of the stride."""
        return self.see(self._normalise(images))

    def alone(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [0, 1]. What the summary would be if a cell were all there was: [B, S, h, w].

        The last attention sees each cell alone, so that its value is its result. For the attention at the end of a
        CLIP's ViT this is MaskCLIP (Extract Free Dense Labels from CLIP, arXiv 2112.01071, section 3.3).
        """
        return self.see_alone(self._normalise(images))

    def fit(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] at the nearest size that the tower takes."""
        stride = self.spec.strides[-1]
        height, width = (max(1, round(side / stride)) * stride for side in images.shape[-2:])
        return images if images.shape[-2:] == self._own else resize(images, self._fixed or (height, width))

    @abc.abstractmethod
    def see(self, images: Tensor) -> Features:
        """`forward`, of normalised images."""

    @abc.abstractmethod
    def see_alone(self, images: Tensor) -> Tensor:
        """`alone`, of normalised images."""

    def _normalise(self, images: Tensor) -> Tensor:
        if self._fixed is not None:
            images = resize(images, self._fixed)
        height, width = images.shape[-2:]
        stride = self.spec.strides[-1]
        if (height % stride or width % stride) and (height, width) != self._own:  # its edge would not be seen
            raise InputError(f"size: {height} x {width} is no multiple of the trunk's {stride} pixels a cell; mend it")
        return (images - self.mean) / self.std


def is_fixed(config: Config, spec: FeatureSpec) -> tuple[int, int] | None:
    """Height and width of the only images that the tower takes, or none. No oblong tower is shown anything else."""
    height, width = config.size
    return config.size if spec.fixed_size is not None or height != width else None
