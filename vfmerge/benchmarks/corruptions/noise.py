"""Noise of sensors and of broken bits.

Each takes a picture uint8 [H, W, 3], its draw and its setting, and gives values [H, W, 3]: 0 is black, 1 is white.
"""

from __future__ import annotations

import numpy as np


def gaussian_noise(picture: np.ndarray, draw: np.random.Generator, deviation: float) -> np.ndarray:
    """Of low light: `deviation` of a normal distribution, the same everywhere."""
    return picture / 255 + draw.normal(0, deviation, picture.shape)


def shot_noise(picture: np.ndarray, draw: np.random.Generator, photons: float) -> np.ndarray:
    """Of light itself: so many photons make white, and their number is a Poisson variable."""
    return draw.poisson(picture / 255 * photons) / photons


def impulse_noise(picture: np.ndarray, draw: np.random.Generator, share: float) -> np.ndarray:
    """Salt and pepper: this share of all values is 0 or 1."""
    chance = draw.random(picture.shape)
    return np.where(chance < share, chance < share / 2, picture / 255)
