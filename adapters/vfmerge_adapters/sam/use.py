"""What a person does with SAM: points, boxes and rough masks to masks. The same for the parent and a merged model.

Preprocessing is `segment_anything`'s own (`ResizeLongestSide`, padding with zeros after normalisation), so that masks
equal `SamPredictor`'s.

Axis letters: N prompts, P points a prompt, K masks a prompt, H x W pixels of the picture, S side of the input square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from vfmerge.capability import Promptable, PromptableImage

from .geometry import PIXEL_MEAN
from .network import Head
from .prompts import Prompts

if TYPE_CHECKING:
    import numpy as np

    from vfmerge.model import Network


class Segmenter(Promptable):
    """A promptable segmenter at one input size: S pixels square, SAM's own or the nearest that its trunk takes."""

    def __init__(self, network: Network) -> None:
        assert isinstance(network.head, Head)
        super().__init__(network)
        self._head = network.head
        self._size = self.fixed_size = network.head.side

    @torch.no_grad()
    def set_image(self, picture: np.ndarray) -> SegmenterImage:
        small = ResizeLongestSide(self._size).apply_image(picture)
        device = next(self.network.parameters()).device
        pixels = torch.from_numpy(small).to(device).permute(2, 0, 1).unsqueeze(0).float() / 255
        padding = torch.tensor(PIXEL_MEAN, device=device).view(1, 3, 1, 1) / 255  # what SAM's trunk normalises to zero
        square = padding.expand(1, 3, self._size, self._size).clone()
        square[..., : small.shape[0], : small.shape[1]] = pixels
        embedding = self._head.embed(self.network.encode(square))
        inner = (small.shape[0], small.shape[1])
        return SegmenterImage(self._head, embedding, size=self._size, inner=inner, outer=picture.shape[:2])


class SegmenterImage(PromptableImage):
    """An encoded picture. inner: height and width within the input square; outer: the picture's own."""

    def __init__(
        self, head: Head, embedding: Tensor, *, size: int, inner: tuple[int, int], outer: tuple[int, int]
    ) -> None:
        self._head, self._embedding, self._size, self._inner, self._outer = head, embedding, size, inner, outer
        self.mask_side = 4 * embedding.shape[-1]

    @torch.no_grad()
    def predict(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        prompts = self._prompts(boxes, points, labels, masks)
        logits, ious = self._head.decode(self._embedding, prompts, (self._size, self._size))
        chosen = slice(1, None) if multimask else slice(0, 1)
        return self._enlarge(logits[:, chosen]), ious[:, chosen]

    def _prompts(
        self, boxes: Tensor | None, points: Tensor | None, labels: Tensor | None, masks: Tensor | None
    ) -> Prompts:
        given = [each for each in (boxes, points, masks) if each is not None]
        if not given or (points is None) != (labels is None):
            raise ValueError("give boxes, points with labels, or masks")
        count, device = len(given[0]), self._embedding.device
        coords, kinds = torch.zeros(count, 0, 2, device=device), torch.zeros(count, 0, dtype=torch.long, device=device)
        if points is not None and labels is not None:
            coords = torch.cat([coords, self._scale(points.to(device))], dim=1)
            kinds = torch.cat([kinds, labels.to(device).long()], dim=1)
            if boxes is None:  # SAM pads lone points with one that is none
                coords, kinds = F.pad(coords, (0, 0, 0, 1)), F.pad(kinds, (0, 1), value=-1)
        if boxes is not None:
            coords = torch.cat([coords, self._scale(boxes.to(device).reshape(-1, 2, 2))], dim=1)
            kinds = torch.cat([kinds, torch.tensor([2, 3], device=device).expand(count, 2)], dim=1)
        owner = torch.zeros(count, dtype=torch.long, device=device)
        return Prompts(owner=owner, coords=coords, labels=kinds, masks=None if masks is None else masks.to(device))

    def _scale(self, places: Tensor) -> Tensor:
        """Pixels of the picture [..., 2] to pixels of the input square."""
        ratio = [self._inner[1] / self._outer[1], self._inner[0] / self._outer[0]]
        return (places.double() * torch.tensor(ratio, dtype=torch.double, device=places.device)).float()

    def _enlarge(self, logits: Tensor) -> Tensor:
        """Low-resolution logits [N, K, s, s] to the picture's size [N, K, H, W], as `Sam.postprocess_masks`."""
        square = F.interpolate(logits, size=(self._size, self._size), mode="bilinear", align_corners=False)
        inner = square[..., : self._inner[0], : self._inner[1]]
        return F.interpolate(inner, size=self._outer, mode="bilinear", align_corners=False)
