"""open_clip's own image and text towers: built from a config, and filled with weights.

Axis letters: T texts, n tokens, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping

import open_clip
import torch
from torch import Tensor, nn

from vfmerge import weights
from vfmerge.errors import InputError, one_line

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


def image_tower(config: Config, *, shallow: bool = False) -> nn.Module:
    """The image tower of that shape. shallow: with as few layers as there can be, where what follows them is wanted."""
    least = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}  # nor an image tower
    arguments = config.towers() | {"text_cfg": least}
    few = {"vit": {"layers": 1}, "resnet": {"layers": [1, 1, 1, 1]}, "timm": {}}[config.kind]
    if shallow:
        arguments["vision_cfg"] = arguments["vision_cfg"] | few
    return _build(arguments, seed=None).visual


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
