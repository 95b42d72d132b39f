"""A promptable model that is asked as `segment_anything.SamPredictor` is, beside what every promptable model can do.

Code that was written for a `SamPredictor` runs on it: the picture that was set last is remembered.

Axis letters: C channels, h x w cells, N prompts, P points a prompt, K masks a prompt, H x W pixels of the picture, s
side of low-resolution masks.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vfmerge.capability import Promptable, as_picture
from vfmerge.errors import InputError

from .head import PromptedHead
from .image import SegmenterImage
from .placement import Colour, Placement, Resize, fill, place

if TYPE_CHECKING:
    from torch import nn

    from vfmerge.images import One
    from vfmerge.model import Network

_FORMATS = ("RGB", "BGR")


class Predictor(Promptable, abc.ABC):
    """A promptable segmenter at one input size, its head's side.

    padding: of the square; none for a model whose pictures are stretched. resize: the library's way.
    """

    mask_threshold = 0.0
    image_format = "RGB"

    def __init__(self, network: Network, *, padding: Colour | None, resize: Resize) -> None:
        assert isinstance(network.head, PromptedHead)
        super().__init__(network)
        self.head = network.head
        self.padding, self.resize = padding, resize
        self.fixed_size = network.head.side
        self._set: SegmenterImage | None = None

    @property
    @abc.abstractmethod
    def image_encoder(self) -> nn.Module:
        """As a `Sam` of segment_anything has it. Raises InputError where there is no such."""

    @torch.no_grad()
    def set_image(self, image: One, image_format: str = "RGB") -> SegmenterImage:
        """Encode a picture, in any form of `vfmerge.images`, once, to be prompted many times; and remember it.

        image_format: order of its channels, RGB or BGR.
        """
        picture = _order(image, image_format)
        square, placement = place(
            picture, side=self.head.side, padding=self.padding, resize=self.resize, device=self.device
        )
        return self._remember(square, placement)

    @torch.no_grad()
    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, int]) -> SegmenterImage:
        """As `set_image`, of a picture [1, 3, h, w] in RGB, 0..255, that has its size in the input square already.

        original_image_size: H, W that it had before. Raises InputError for another size.
        """
        placement = Placement(side=self.head.side, outer=tuple(original_image_size), padded=self.padding is not None)
        if tuple(transformed_image.shape) != (1, 3, *placement.inner):
            given, (height, width) = "x".join(map(str, transformed_image.shape)), placement.inner
            raise InputError(f"transformed_image: is {given}; make it 1x3x{height}x{width}, as `transform` does")
        small = transformed_image.to(self.device).float() / 255
        return self._remember(fill(small, placement, padding=self.padding or (0.0, 0.0, 0.0)), placement)

    def _remember(self, square: Tensor, placement: Placement) -> SegmenterImage:
        """Encode a picture in its square [1, 3, S, S] in [0, 1]."""
        maps = self.head.embed(self.network.encode(square.to(self.dtype)))
        self._set = SegmenterImage(self.head, maps, placement=placement)
        return self._set

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The masks of one prompt on the picture that was set.

        point_coords: [P, 2], x and y in its pixels, with point_labels [P], 1 inside and 0 outside. box: [4], x0, y0,
        x1, y1. mask_input: low-resolution logits [1, s, s]. multimask_output: the three masks of an ambiguous prompt.
        Returns masks bool [K, H, W], or with `return_logits` their logits; IoU scores [K]; low-resolution logits
        [K, s, s]. Raises InputError where no picture was set.
        """
        image = self._image
        low, ious = image.decode(
            boxes=_first(box),
            points=_first(point_coords),
            labels=_first(point_labels),
            masks=_first(mask_input),
            multimask=multimask_output,
        )
        masks = self._cut(image.outward(low), return_logits=return_logits)
        return masks[0].cpu().numpy(), ious[0].cpu().numpy(), low[0].cpu().numpy()

    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `predict`, of N prompts whose points [N, P, 2] and boxes [N, 4] are in pixels of the input square.

        point_labels: [N, P]. mask_input: [N, 1, s, s]. Returns [N, K, H, W], [N, K] and [N, K, s, s].
        """
        image = self._image
        low, ious = image.decode(
            boxes=boxes,
            points=point_coords,
            labels=point_labels,
            masks=mask_input,
            multimask=multimask_output,
            placed=True,
        )
        return self._cut(image.outward(low), return_logits=return_logits), ious, low

    def get_image_embedding(self) -> Tensor:
        """What prompts attend to of the picture that was set, [1, C, h, w]."""
        return self._image.maps[-1]

    def reset_image(self) -> None:
        """Forget the picture that was set."""
        self._set = None

    @property
    def is_image_set(self) -> bool:
        return self._set is not None

    @property
    def original_size(self) -> tuple[int, int]:
        """H, W of the picture that was set."""
        return self._image.placement.outer

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that it has in the input square."""
        return self._image.placement.inner

    @property
    def _image(self) -> SegmenterImage:
        if self._set is None:
            raise InputError("predict: no picture was set; call set_image first")
        return self._set

    def _cut(self, logits: Tensor, *, return_logits: bool) -> Tensor:
        return logits if return_logits else logits > self.mask_threshold


def _order(image: One, image_format: str) -> np.ndarray:
    """One picture, uint8 [H, W, 3] in RGB."""
    if image_format not in _FORMATS:
        raise InputError(f"image_format: {image_format!r} is not {' or '.join(_FORMATS)}; give one of these")
    picture = as_picture(image)
    return picture if image_format == "RGB" else np.ascontiguousarray(picture[..., ::-1])


def _first(values: Any) -> Tensor | None:
    """One prompt's numbers as those of the first of one, or none."""
    return None if values is None else torch.as_tensor(np.asarray(values, dtype=np.float32))[None]
