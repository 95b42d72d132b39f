"""Blur of lenses, of frosted glass, and of moving.

Each takes a picture uint8 [H, W, 3], its draw and its setting, and gives values [H, W, 3]: 0 is black, 1 is white.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .filters import convolve, enlarge, gaussian, line


def defocus_blur(picture: np.ndarray, draw: np.random.Generator, radius: float, edge: float) -> np.ndarray:
    """Out of focus: every point is a disc of `radius` pixels, whose edge is softened by `edge`."""
    reach = int(radius) + 2
    square = np.arange(-reach, reach + 1) ** 2
    disc = (square + square[:, None] <= radius**2).astype(float)
    return convolve(picture / 255, convolve(disc / disc.sum(), gaussian(edge)))


def glass_blur(picture: np.ndarray, draw: np.random.Generator, sigma: float, far: float, times: float) -> np.ndarray:
    """Seen through frosted glass: so often pixels show others not `far` away, before and after it a soft blur."""
    values = convolve(picture / 255, gaussian(sigma))
    colours = values.reshape(-1, values.shape[2])
    for _ in range(int(times)):
        colours = colours[_shuffle(draw, picture.shape[:2], int(far))]
    return convolve(colours.reshape(values.shape), gaussian(sigma))


def motion_blur(picture: np.ndarray, draw: np.random.Generator, radius: float, sigma: float) -> np.ndarray:
    """The camera moves, at most 45 degrees from the horizontal; every point is a trail that fades by `sigma`."""
    return convolve(picture / 255, line(radius, sigma, draw.uniform(-45, 45)))


def zoom_blur(picture: np.ndarray, draw: np.random.Generator, last: float, step: float) -> np.ndarray:
    """The camera moves forward: the mean of the picture and of its middle, enlarged 1, 1 + step ... `last` times."""
    image = Image.fromarray(picture)
    factors = 1 + step * np.arange(round((last - 1) / step) + 1)
    total = sum(np.asarray(enlarge(image, factor), dtype=float) for factor in factors)
    mean: np.ndarray = (picture + total) / (len(factors) + 1) / 255
    return mean


def _shuffle(draw: np.random.Generator, frame: tuple[int, int], far: int) -> np.ndarray:
    """The number of the pixel whose colour each shows [H * W].

    As in the authors' code, where from the last pixel to the first each takes the colour that another, at most `far`
    up, down, left or right, has by then. One that looks on at a later pixel thus sees what that has seen.
    """
    height, width = frame
    down, right = draw.integers(-far, far, size=(2, height, width))
    rows = np.clip(np.arange(height)[:, None] + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    looks = (rows * width + columns).ravel()
    sees: np.ndarray = looks.copy()
    onward = np.flatnonzero(looks > np.arange(len(looks)))
    while len(onward):
        there = sees[onward]
        sees[onward] = looks[there]
        onward = onward[looks[there] > there]
    return sees
