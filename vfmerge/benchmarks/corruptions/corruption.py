"""Corruptions by name: the same picture, worse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from . import blur, digital, noise, weather
from .settings import setting

Name = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
NAMES: tuple[Name, ...] = get_args(Name)
"""In the order of the paper: noise, blur, weather, digital."""

_MADE: dict[str, Callable[..., np.ndarray]] = {
    name: vars(module)[name] for module in (noise, blur, weather, digital) for name in NAMES if name in vars(module)
}


def corrupt(picture: np.ndarray, *, name: Name, severity: int, draw: np.random.Generator) -> np.ndarray:
    """A corrupted copy of a picture uint8 [H, W, 3]. severity: 1 to 5. draw: where its randomness comes from."""
    numbers = setting(name, severity=severity, side=min(picture.shape[:2]))
    values = _MADE[name](picture, draw, *numbers)
    image: np.ndarray = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return image
