"""Pictures as a trunk takes them.

Axis letters: B pictures, H x W pixels, S side of the square input.
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
