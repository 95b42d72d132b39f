"""How SAM looks at a picture: `segment_anything`'s own way, so that masks equal `SamPredictor`'s."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import resize as resize_picture
from torchvision.transforms.functional import to_pil_image

from .geometry import PIXEL_MEAN

PADDING = (PIXEL_MEAN[0] / 255, PIXEL_MEAN[1] / 255, PIXEL_MEAN[2] / 255)  # what SAM's trunk normalises to zero


def resize(picture: np.ndarray, inner: tuple[int, int]) -> Tensor:
    """A picture, uint8 [H, W, 3], at a height and width, uint8 [3, h, w], as `ResizeLongestSide` makes it."""
    small = np.array(resize_picture(to_pil_image(picture), list(inner)))
    return torch.from_numpy(small).permute(2, 0, 1)
