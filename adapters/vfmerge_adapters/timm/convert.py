"""Files of weights as a network of timm takes them: timm's own conversions, then every tensor or an error.

timm resamples position embeddings and patches to the network's grid, and renames what other projects call otherwise.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
from timm.models import model_entrypoint
from torch import Tensor, nn

from vfmerge import weights
from vfmerge.errors import CheckpointError, one_line

from .network import build
from .shape import Shape

# What files hold besides the network: a MAE's decoder, and SigLIP's pooling where another is asked for.
_BESIDE = ("decoder_", "mask_token", "attn_pool.")
# What timm tells its conversion besides, by how the architecture's name begins.
_BILINEAR = {"interpolation": "bilinear", "antialias": False}
_MORE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("deit", {"adapt_layer_scale": True}),
    ("flexivit", _BILINEAR),
    ("vit_(base|huge)_patch16_radio_v3", _BILINEAR | {"align_corners": True}),
    ("vit_.*_radio", _BILINEAR | {"align_corners": False}),
)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], *, shape: Shape, source: str) -> None:
    """Fill a model that was built from `shape` with the tensors of a file, wholly, or raise a `CheckpointError`.

    What a classifier would have is left out. source: what the message calls the weights.
    """
    with torch.device("meta"):
        classifying = build(shape, classes=1).state_dict()
    classifier = tuple(classifying.keys() - model.state_dict().keys())
    weights.fit(model, _convert(model, tensors, shape, source), source=source, ignore=(*classifier, *_BESIDE))


def _convert(model: nn.Module, tensors: Mapping[str, Tensor], shape: Shape, source: str) -> Mapping[str, Tensor]:
    """The tensors as timm gives them to its model."""
    module = sys.modules[model_entrypoint(shape.name).__module__]
    conversion = vars(module).get("checkpoint_filter_fn")
    if conversion is None:
        return tensors
    more = next((told for beginning, told in _MORE if re.match(beginning, shape.name)), {})
    try:
        return conversion(dict(tensors), model, **more)
    except Exception as error:  # of tensors that are not there, or of another shape
        text = f"{source}: timm cannot take these weights for {shape.name} ({type(error).__name__}: {error})"
        raise CheckpointError(one_line(f"{text}; give the weights of this very architecture")) from error
