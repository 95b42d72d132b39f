"""Labels of pixels from text-aligned cells alone (SAM-CLIP, arXiv 2310.15308, section 4.2, after CLIPpy 2210.09996).

Axis letters: H x W pixels, h x w cells, K classes with the background if it is one, D embedding width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from vfmerge.capability import ImageText

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Background = Literal["prompt", "ignore", "threshold"]
"""What a pixel of no class is: one more class that has a prompt; not judged; a pixel that is sure of no class."""


class Labeller(Protocol):
    """Whatever gives every pixel of a picture a class."""

    def label(self, picture: np.ndarray, *, name: str) -> np.ndarray:
        """The class of each pixel: int64 [H, W] in 0..classes. name: the picture's, which draws depend on."""


class Cells:
    """A picture's cells compared with the embeddings of class names.

    words: unit embeddings [K, D] of the classes, and with background `prompt` of the background as the last.
    size: input side in pixels, none for the model's own. scale: what cosines are multiplied by to be logits.
    threshold: the probability that says a class is there.
    """

    def __init__(
        self,
        image_text: ImageText,
        *,
        words: Tensor,
        size: int | None,
        scale: float,
        background: Background,
        threshold: float,
    ) -> None:
        self._image_text, self._words, self._size, self._scale = image_text, words, size, scale
        self.background, self.threshold = background, threshold
        self.classes = len(words) - (background == "prompt")
        """How many classes there are; this number itself is the label of the background."""

    def logits(self, picture: np.ndarray) -> Tensor:
        """Logits of classes per cell [K, h, w]; the cells cover the whole picture, whatever its aspect."""
        import torch

        cells = self._image_text.encode_cells([picture], size=self._size)[0]  # [D, h, w]
        return self._scale * torch.einsum("kd,dhw->khw", self._words.to(cells.device), cells)

    def label(self, picture: np.ndarray, *, name: str) -> np.ndarray:
        """The class of each pixel: int64 [H, W] in 0..classes. Nothing is drawn, so the name has no say."""
        height, width = picture.shape[:2]
        return self.spread(self.logits(picture), (height, width)).cpu().numpy()

    def spread(self, logits: Tensor, frame: tuple[int, int]) -> Tensor:
        """Logits of cells [K, h, w] to labels of pixels [H, W]: enlarged bilinearly, then the largest."""
        import torch.nn.functional as F

        large = F.interpolate(logits.unsqueeze(0), size=frame, mode="bilinear", align_corners=False)[0]
        labels = large.argmax(0)
        if self.background == "threshold":
            labels[large.softmax(0).amax(0) <= self.threshold] = self.classes
        return labels
