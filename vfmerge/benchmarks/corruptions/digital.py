"""What becomes of a picture in a computer.

Each takes a picture uint8 [H, W, 3], its draw and its setting, and gives values [H, W, 3]: 0 is black, 1 is white.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .filters import convolve, gaussian

_FINE = 4  # grid lines a sigma of a smooth field (chosen here: what lies between them is smooth enough)


def contrast(picture: np.ndarray, draw: np.random.Generator, kept: float) -> np.ndarray:
    """Differences from the picture's mean colour, of which this share is kept."""
    values = picture / 255
    mean = values.mean(axis=(0, 1))
    pale: np.ndarray = (values - mean) * kept + mean
    return pale


def pixelate(picture: np.ndarray, draw: np.random.Generator, kept: float) -> np.ndarray:
    """Made smaller, to this share of its sides, and larger again without smoothing."""
    image = Image.fromarray(picture)
    few = image.resize((max(int(image.width * kept), 1), max(int(image.height * kept), 1)), Image.Resampling.BOX)
    return np.asarray(few.resize(image.size, Image.Resampling.BOX)) / 255


def jpeg_compression(picture: np.ndarray, draw: np.random.Generator, quality: float) -> np.ndarray:
    """Saved and loaded as a JPEG of this quality."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file)) / 255


def elastic_transform(
    picture: np.ndarray, draw: np.random.Generator, amplitude: float, sigma: float, stretch: float
) -> np.ndarray:
    """Bent like rubber: an affine map whose corners move by up to `stretch`, and a smooth random displacement.

    amplitude: what uniform noise is multiplied by after a blur of `sigma`; all are shares of the shorter side.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    y, x = np.mgrid[:height, :width].astype(float)
    places = [y, x]
    if sigma:
        places = [each + amplitude * side * _field(draw, (height, width), sigma * side) for each in places]
    return _look_up(picture / 255, *_bend(draw, places, stretch * side))


def _bend(draw: np.random.Generator, places: list[np.ndarray], reach: float) -> list[np.ndarray]:
    """Rows and columns [H, W] of a random affine map, which moves three corners of a square by up to `reach`."""
    height, width = places[0].shape
    middle, third = np.array([height // 2, width // 2]), min(height, width) // 3
    corners = middle + third * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = corners + draw.uniform(-reach, reach, corners.shape)
    offset, down, right = np.linalg.solve(np.column_stack([np.ones(3), corners]), moved)
    return [offset[axis] + down[axis] * places[0] + right[axis] * places[1] for axis in (0, 1)]


def _field(draw: np.random.Generator, frame: tuple[int, int], sigma: float) -> np.ndarray:
    """Uniform noise in -1..1 blurred by `sigma` pixels [H, W]; drawn on a coarser grid where that is as good."""
    spacing = max(int(sigma / _FINE), 1)
    rows, columns = (-(-length // spacing) for length in frame)
    noise = draw.uniform(-1, 1, (rows, columns)) / spacing  # a mean of spacing^2 values spreads so much less
    smooth = convolve(noise, gaussian(sigma / spacing, cut=3)).astype(np.float32)
    wide = Image.fromarray(smooth).resize((frame[1], frame[0]), Image.Resampling.BICUBIC)
    return np.asarray(wide, dtype=float)


def _look_up(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values [H, W, 3] at places between pixels [H, W], bilinearly; edges are mirrored."""
    (top, bottom, low), (left, right, far) = (
        _between(place, length) for place, length in zip((rows, columns), values.shape[:2], strict=True)
    )
    upper = values[top, left] * (1 - far) + values[top, right] * far
    lower = values[bottom, left] * (1 - far) + values[bottom, right] * far
    blended: np.ndarray = upper * (1 - low) + lower * low
    return blended


def _between(place: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels before and after each place [H, W], and how near it is to the latter [H, W, 1]."""
    last = max(length - 1, 1)
    mirrored = last - abs(abs(place) % (2 * last) - last)
    before = np.minimum(mirrored.astype(int), length - 1)
    return before, np.minimum(before + 1, length - 1), (mirrored - before)[..., None]
