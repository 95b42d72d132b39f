"""What a person does with a SAM of `segment_anything`, the same for the parent and a merged model.

It looks at a picture in that library's own way, so that masks equal `SamPredictor`'s, and stands for a `Sam` where that
library's tools take one: `SamPredictor(model.sam)`, `SamAutomaticMaskGenerator(model.sam)`.

Axis letters: B images, C channels, h x w cells, H x W pixels, S side of the input square.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from segment_anything.modeling import PromptEncoder, Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn
from torchvision.transforms.functional import resize as resize_picture
from torchvision.transforms.functional import to_pil_image

from ..promptable.predictor import Predictor
from .geometry import PIXEL_MEAN, PIXEL_STD
from .network import Head

if TYPE_CHECKING:
    from vfmerge.model import Network

PADDING = (PIXEL_MEAN[0] / 255, PIXEL_MEAN[1] / 255, PIXEL_MEAN[2] / 255)  # what SAM's trunk normalises to zero


class SamSegmenter(Predictor):
    """A network whose head is SAM's own, on whichever trunk."""

    def __init__(self, network: Network) -> None:
        assert isinstance(network.head, Head)
        super().__init__(network, padding=PADDING, resize=resize)

    @property
    def sam(self) -> Sam:
        """The library's own class around these very modules, for what knows that class alone."""
        parts = Encoder(self.network), _prompts(self.network.head), self.network.head.mask_decoder
        return Sam(*parts, pixel_mean=list(PIXEL_MEAN), pixel_std=list(PIXEL_STD)).to(self.device).eval()

    @property
    def model(self) -> Sam:
        """What a `SamPredictor` calls its `Sam`."""
        return self.sam

    @property
    def image_encoder(self) -> Encoder:
        return Encoder(self.network)

    @property
    def prompt_encoder(self) -> PromptEncoder:
        return _prompts(self.network.head)

    @property
    def mask_decoder(self) -> nn.Module:
        decoder: nn.Module = self.network.head.mask_decoder
        return decoder

    @property
    def transform(self) -> ResizeLongestSide:
        """Brings pictures, points and boxes to the input square, as that of a `SamPredictor`."""
        return ResizeLongestSide(self.network.head.side)

    def preprocess(self, x: Tensor) -> Tensor:
        """Images [..., 3, H, W] in 0..255 whose longer side is S, normalised and padded to [..., 3, S, S]."""
        return self.sam.preprocess(x)

    def postprocess_masks(self, masks: Tensor, input_size: tuple[int, ...], original_size: tuple[int, ...]) -> Tensor:
        """Low-resolution logits at a picture's own size, without the padding."""
        return self.sam.postprocess_masks(masks, input_size, original_size)

    def __call__(self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool) -> list[dict[str, Tensor]]:
        """As a `Sam`: a picture's prompts at a time, from images in its form."""
        found: list[dict[str, Tensor]] = self.sam(batched_input, multimask_output)
        return found


class Encoder(nn.Module):
    """In the place of SAM's image encoder: images [B, 3, S, S], normalised as a `Sam` does, -> embeddings [B, C, h, w].

    img_size: S.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.img_size = network.head.side
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1) / 255, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        trunk = next(self.network.parameters())
        images = x * self.std.to(x) + self.mean.to(x)  # normalisation is the trunk's own
        (embedding,) = self.network.head.embed(self.network.encode(images.to(trunk.dtype)))
        return embedding


def _prompts(head: Head) -> PromptEncoder:
    """The head's prompt encoder, told the sizes that its trunk is asked at, which may be others than its SAM's.

    It shares the head's modules: what changes is three plain attributes.
    """
    own = head.prompt_encoder
    cells = max(1, round(head.side * own.image_embedding_size[0] / own.input_image_size[0]))
    told = copy.copy(own)
    told.input_image_size = (head.side, head.side)
    told.image_embedding_size = (cells, cells)
    told.mask_input_size = (4 * cells, 4 * cells)
    return told


def resize(picture: np.ndarray, inner: tuple[int, int]) -> Tensor:
    """A picture, uint8 [H, W, 3], at a height and width, uint8 [3, h, w], as `ResizeLongestSide` makes it."""
    small = np.array(resize_picture(to_pil_image(picture), list(inner)))
    return torch.from_numpy(small).permute(2, 0, 1)
