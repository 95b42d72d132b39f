"""Types of models in `transformers`: which class they are, and where it keeps a picture's summary and its cells.

Imports no torch and no transformers: what looks at an image is given the model.

Axis letters: B images, C channels, h x w cells, n tokens, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import Features, FeatureSpec

if TYPE_CHECKING:
    from torch import Tensor

# What the published weights of these families were trained with; it stands in where a model has no file of its own.
_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_OPENAI = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}
_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """How one type of model is built and looked at.

    model: its class in transformers. part: of the config, which describes it; none is the whole of it.
    spec: its config -> what it promises. see: (model, normalised images [B, 3, H, W]) -> Features.
    preprocessing: the default of its mean and standard deviation.
    settings: what is changed in its config. arguments: further ones of its class.
    beside: prefixes of what its files may hold besides it.
    """

    model: str
    spec: Callable[[Any], FeatureSpec]
    see: Callable[[Any, Tensor], Features]
    preprocessing: Mapping[str, Any]
    part: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    beside: tuple[str, ...] = ()


def _promise_vit(config: Any) -> FeatureSpec:
    width, heads = config.hidden_size, config.num_attention_heads
    return FeatureSpec(channels=(width,), strides=(config.patch_size,), summary=width, heads=heads)


def _promise_siglip(config: Any) -> FeatureSpec:
    spec = _promise_vit(config)
    return spec if config.vision_use_head else dataclasses.replace(spec, summary=None)


def _promise_convnext(config: Any) -> FeatureSpec:
    """A map a stage: the first has cells of 4 pixels, each further one of twice as many."""
    widths = tuple(config.hidden_sizes)
    strides = tuple(4 * 2**stage for stage in range(len(widths)))
    return FeatureSpec(channels=widths, strides=strides, summary=widths[-1])


def _see_dino(model: Any, images: Tensor) -> Features:
    return divide(model, images, model(images).last_hidden_state)


def _see_vit(model: Any, images: Tensor) -> Features:
    return divide(model, images, model(images, interpolate_pos_encoding=True).last_hidden_state)


def _see_mae(model: Any, images: Tensor) -> Features:
    """Whole pictures, cells in their order: noise that rises from cell to cell shuffles none."""
    import torch

    cells = (images.shape[-2] // model.config.patch_size) * (images.shape[-1] // model.config.patch_size)
    noise = torch.arange(cells, device=images.device, dtype=torch.float32).expand(images.shape[0], -1)
    tokens = model(images, noise=noise, interpolate_pos_encoding=True).last_hidden_state
    return divide(model, images, tokens)


def see_clip(model: Any, images: Tensor) -> Features:
    """The cells' tokens too are normalised as the summary is: what the last layer leaves has a few huge channels."""
    tokens = model(images, interpolate_pos_encoding=True).last_hidden_state
    return divide(model, images, model.post_layernorm(tokens))


def see_siglip(model: Any, images: Tensor) -> Features:
    """All tokens are cells; the summary is what attention pools of them."""
    seen = model(images, interpolate_pos_encoding=True)
    maps = divide(model, images, seen.last_hidden_state).maps
    return Features(maps=maps, summary=seen.pooler_output)


def _see_convnext(model: Any, images: Tensor) -> Features:
    """The stages' maps, the last one normalised as the library does it; the summary is of its mean."""
    seen = model(images, output_hidden_states=True)
    stages = seen.hidden_states[-len(model.config.hidden_sizes) :]
    last = seen.last_hidden_state[:, 1:].transpose(1, 2).reshape(stages[-1].shape)
    return Features(maps=(*stages[:-1], last), summary=seen.pooler_output)


def divide(model: Any, images: Tensor, tokens: Tensor) -> Features:
    """Tokens [B, n, C], the last h w of which are cells: a map of those, and the first token as the summary."""
    h, w = (side // model.config.patch_size for side in images.shape[-2:])
    cells = tokens[:, tokens.shape[1] - h * w :].transpose(1, 2).unflatten(2, (h, w))
    return Features(maps=(cells,), summary=tokens[:, 0])


_DINO: dict[str, Any] = {"spec": _promise_vit, "see": _see_dino, "preprocessing": _IMAGENET, "beside": ("classifier.",)}
_CLIP: dict[str, Any] = {"model": "CLIPVisionModel", "spec": _promise_vit, "see": see_clip, "preprocessing": _OPENAI}
_CLIP |= {"beside": ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "classifier.")}
_SIGLIP: dict[str, Any] = {"model": "SiglipVisionModel", "spec": _promise_siglip, "see": see_siglip}
_SIGLIP |= {"preprocessing": _HALF, "beside": ("text_model.", "logit_scale", "logit_bias", "classifier.")}

FAMILIES = {
    "dinov2": Family(model="Dinov2Model", **_DINO),
    "dinov2_with_registers": Family(model="Dinov2WithRegistersModel", **_DINO),
    "dinov3_vit": Family(model="DINOv3ViTModel", **_DINO),
    "dinov3_convnext": Family(
        model="DINOv3ConvNextModel",
        spec=_promise_convnext,
        see=_see_convnext,
        preprocessing=_IMAGENET,
        beside=("classifier.",),
    ),
    "vit_mae": Family(
        model="ViTMAEModel",
        spec=_promise_vit,
        see=_see_mae,
        preprocessing=_IMAGENET,
        settings={"mask_ratio": 0.0},
        beside=("decoder.",),
    ),
    "vit": Family(
        model="ViTModel",
        spec=_promise_vit,
        see=_see_vit,
        preprocessing=_HALF,
        arguments={"add_pooling_layer": False},
        beside=("pooler.", "classifier."),
    ),
    "clip_vision_model": Family(**_CLIP),
    "clip": Family(**_CLIP, part="vision_config"),
    "siglip_vision_model": Family(**_SIGLIP),
    "siglip": Family(**_SIGLIP, part="vision_config"),
}
"""By `model_type`. Of a whole CLIP or SigLIP it is the image tower. SigLIP 2 at a fixed size is a `siglip` too."""
