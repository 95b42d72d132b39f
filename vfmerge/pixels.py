"""Pictures as a trunk takes them.

Axis letters: B pictures or images, H x W pixels, S side of the square input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def stretch(pictures: Sequence[np.ndarray], size: int) -> Tensor:
    """Pictures, uint8 [H, W, 3] of any size, as images [B, 3, S, S] in [0, 1]: whole, each side scaled by itself."""
    import torch
    from PIL import Image

    frame = (size, size)
    squares = [np.asarray(Image.fromarray(each).resize(frame, Image.Resampling.BICUBIC)) for each in pictures]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [B, 3, ...] in [0, 1] at a height and width; themselves where they have it."""
    import torch.nn.functional as F

    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
