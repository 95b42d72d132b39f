"""What a person does with a promptable model of a library whose tools drive no other model than its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfmerge.errors import InputError

from .predictor import Predictor

if TYPE_CHECKING:
    from torch import nn


class Segmenter(Predictor):
    """A promptable segmenter, for parent and merged alike."""

    @property
    def image_encoder(self) -> nn.Module:
        """Raises InputError: it is the first that segment_anything's tools ask of a model."""
        text = "image_encoder: this model's decoder is none of segment_anything's, whose tools cannot drive it"
        raise InputError(f"{text}; call set_image and predict of the model itself")
