"""open_clip's own image and text towers: built from a config, filled with weights, and made the parts of a Network.

Axis letters: B images, H x W pixels, h x w cells, D embedding width.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge import weights
from vfmerge.adapter import Batch, Features
from vfmerge.errors import InputError, one_line

from . import cells
from .config import Config

# In a plain CLIP's file the text tower has no prefix.
_TEXT = ("positional_embedding", "text_projection", "token_embedding.", "transformer.", "ln_final.")
# What files hold besides the towers: the contrastive loss's scale, OpenAI's sizes, a CoCa's captioner, an old buffer.
_BESIDE = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size", "text_decoder.")
_BESIDE += ("text.transformer.embeddings.position_ids",)


def build(config: Config, *, seed: int | None = None) -> open_clip.CustomTextCLIP:
    """The model of that shape with random weights, in eval mode. seed: what they are drawn from; none says not used.

    Every open_clip model is a `CustomTextCLIP`: a `CLIP` is the same with its text tower's parts laid bare.
    """
    return _build(config.towers(), seed=seed)


def text_tower(config: Config) -> nn.Module:
    """The text tower of that shape, frozen and in eval mode: tokens [T, n] -> embeddings [T, D]."""
    least = {"image_size": 1, "patch_size": 1, "width": 64, "layers": 1}  # open_clip builds no text tower alone
    clip = _build(config.towers() | {"vision_cfg": least}, seed=None)
    return clip.text.requires_grad_(False)


def fill(clip: open_clip.CustomTextCLIP, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Give both towers the weights of an open_clip file, all of them or a `CheckpointError`."""
    named = {f"text.{name}" if name.startswith(_TEXT) else name: tensor for name, tensor in tensors.items()}
    towers = nn.ModuleDict({"visual": clip.visual, "text": clip.text})
    weights.fit(towers, named, source=source, ignore=_BESIDE)


def _build(arguments: Mapping[str, object], *, seed: int | None) -> open_clip.CustomTextCLIP:
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return open_clip.CustomTextCLIP(**arguments).eval()
        except (AssertionError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(one_line(f"config: open_clip cannot build this shape ({error}); mend it")) from error


class Trunk(nn.Module):
    """A parent's image tower, at its own size and with its own normalisation. images in [0, 1] -> Features.

    `Features` has a summary alone, the image's embedding, which is all that is learnt from it. Other sizes, and cells,
    take other ways through the tower: `cells` in the space of texts, and `features` before it.
    """

    def __init__(self, visual: nn.Module, *, config: Config) -> None:
        super().__init__()
        self.visual = visual
        self._size = config.size
        self._look = cells.of(config)
        self.register_buffer("mean", torch.tensor(config.preprocess_cfg.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.preprocess_cfg.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] of any size in [0, 1]. The summary is open_clip's `encode_image` [B, D]."""
        return Features(maps=(), summary=self.visual(self._normalise(_resize(images, self._size))))

    def cells(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [0, 1], at the size that is looked at. The cells' embeddings [B, D, h, w]."""
        return self._look.embed(self.visual, self._fit(images))

    def features(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1], at the size that is looked at. What the tower has before its projection.

        One map, of the last layer's cells; the summary, which OpenAI's own linear probes are of (arXiv 2103.00020,
        appendix A.3). A ResNet's attention pool projects by itself: there the summary is the embedding.
        """
        return self._look.see(self.visual, self._fit(images))

    def _fit(self, images: Tensor) -> Tensor:
        """Normalised, at the nearest size that the tower takes."""
        return self._normalise(_resize(images, self._look.nearest(images.shape[-2], images.shape[-1])))

    def _normalise(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class TextAligned(nn.Module, abc.ABC):
    """A head that gives embeddings in the space of texts, and keeps the text tower that made that space.

    text: the frozen text tower.
    size: default height and width of an input in pixels. stride: what they are multiples of.
    """

    def __init__(self, text: nn.Module, *, size: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.text = text
        self.size = size
        self.stride = stride

    def train(self, mode: bool = True) -> TextAligned:
        """As usual, but for the text tower, which stays in eval mode."""
        super().train(mode)
        self.text.eval()
        return self

    def forward(self, features: Features, batch: Batch) -> Tensor:
        """Embeddings of the images [B, D], not normalised."""
        return self.embed(features)

    @abc.abstractmethod
    def embed(self, features: Features) -> Tensor:
        """Embeddings of the images [B, D], not normalised."""

    @abc.abstractmethod
    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. All that the trunk can give, at their own size."""

    @abc.abstractmethod
    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [0, 1]. Embeddings of their cells [B, D, h, w], not normalised."""


class ParentHead(TextAligned):
    """A parent's own: its trunk has done all the work."""

    def __init__(self, text: nn.Module, *, size: tuple[int, int]) -> None:
        super().__init__(text, size=size, stride=1)

    def embed(self, features: Features) -> Tensor:
        assert features.summary is not None
        return features.summary.float()

    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        assert isinstance(trunk, Trunk)
        return trunk.features(images)

    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        assert isinstance(trunk, Trunk)
        return trunk.cells(images).float()


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
