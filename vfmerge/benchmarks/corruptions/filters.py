"""What several corruptions are made of: convolution, and looking closer.

Axis letters: H x W pixels, C channels, k x k cells of a kernel.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def convolve(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Values [H, W] or [H, W, C] convolved with a kernel [k, k], k odd; edges are mirrored.

    By FFT: a large kernel takes little longer than a small one.
    """
    if values.ndim == 3:  # one at a time, to save memory
        return np.dstack([convolve(values[..., channel], kernel) for channel in range(values.shape[2])])
    reach = len(kernel) // 2
    padded = np.pad(values, reach, mode="reflect")
    spectrum = np.fft.rfft2(padded) * np.fft.rfft2(kernel, s=padded.shape)
    around: np.ndarray = np.fft.irfft2(spectrum, s=padded.shape)
    return around[2 * reach :, 2 * reach :]  # what comes before has wrapped around


def gaussian(sigma: float, *, cut: float = 4) -> np.ndarray:
    """A kernel [k, k] that sums to one, cut off at so many sigma."""
    reach = int(cut * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel: np.ndarray = np.outer(weights, weights) / weights.sum() ** 2
    return kernel


def line(radius: float, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's kernel of a motion [k, k]: half a Gaussian along a line from the middle. angle: in degrees."""
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    turn = np.deg2rad(angle)
    rows, columns = (np.rint(steps * way).astype(int) + steps[-1] for way in (np.sin(turn), np.cos(turn)))
    kernel = np.zeros((2 * len(steps) - 1,) * 2)
    np.add.at(kernel, (rows, columns), weights / weights.sum())
    return kernel


def enlarge(image: Image.Image, factor: float) -> Image.Image:
    """The middle of a picture, so many times larger; the frame stays."""
    width, height = image.size
    x, y = (1 - 1 / factor) * width / 2, (1 - 1 / factor) * height / 2
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(x, y, width - x, height - y))
