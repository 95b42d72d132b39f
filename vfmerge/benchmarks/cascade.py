"""Labels of pixels from two models one after the other: masks of everything, each cut out and named.

The control of SAM-CLIP, arXiv 2310.15308, table 7: SAM in everything mode, then CLIP. The paper does not say how masks
are cut out, nor which of several over a pixel names it. Chosen here, as what did best with the tiny parents:
* a crop is a square around the mask's box, a tenth of the box's longer side wider on each side, so that nothing is cut
  off by a model that looks at the middle of what it is given; beyond the picture's edge it has the picture's mean
  colour, and so has, by default, what is not of the mask;
* a pixel is named by the mask of the highest score over it, the probability of its class times the IoU that the
  segmenter believes in; of equal ones, by the smaller mask.

Axis letters: H x W pixels, N masks, K classes with the background if it is one, D embedding width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from vfmerge.capability import ImageText, Promptable

from .cells import Background
from .everything import Everything

if TYPE_CHECKING:
    from torch import Tensor

Crop = Literal["mask", "box"]
"""What a crop shows: the mask alone, on the picture's mean colour; or all that is there."""

_MARGIN = 0.1  # of the box's longer side, on each side
_AT_ONCE = 16  # crops embedded in one call


class Cascade:
    """Masks of everything in a picture, each named by the class whose text is nearest to its crop.

    words: unit embeddings [K, D] of the classes, and with background `prompt` of the background as the last.
    scale: what cosines are multiplied by to be logits. threshold: with background `threshold`, a mask whose class is no
    more probable than this is not used. A pixel in no mask is background or, where that is not judged, of the class
    that the whole picture is nearest to.
    """

    def __init__(
        self,
        image_text: ImageText,
        promptable: Promptable,
        *,
        words: Tensor,
        scale: float,
        background: Background,
        threshold: float,
        everything: Everything,
        crop: Crop,
    ) -> None:
        self._image_text, self._promptable = image_text, promptable
        self._words, self._scale = words, scale
        self._background, self._threshold = background, threshold
        self._everything, self._crop = everything, crop
        self._classes = len(words) - (background == "prompt")

    def label(self, picture: np.ndarray, *, name: str) -> np.ndarray:
        """The class of each pixel: int64 [H, W] in 0..classes. Nothing is drawn, so the name has no say."""
        frame = picture.shape[0], picture.shape[1]
        labels = np.full(frame, self._classes, dtype=np.int64)
        if self._background == "ignore":
            labels[:] = self._name([picture])[0]
        masks = self._everything.find(self._promptable, picture)
        best = np.zeros(frame)
        order = np.argsort(-masks.areas, kind="stable")  # so that the smaller of equal scores has the last word
        for numbers in np.split(order, range(_AT_ONCE, len(order), _AT_ONCE)):
            found = [masks[number] for number in numbers]
            crops = [cut(picture, mask, self._crop) for mask in found]
            for number, mask, label, chance in zip(numbers, found, *self._name(crops), strict=True):
                if self._background == "threshold" and chance <= self._threshold:
                    continue
                score = chance * masks.scores[number]
                won = mask & (score >= best)
                labels[won], best[won] = label, score
        return labels

    def _name(self, pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The class of each of N pictures and its probability: int64 [N], float [N]."""
        if not pictures:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        embeddings = self._image_text.encode_image(pictures)  # [N, D]
        logits = self._scale * embeddings @ self._words.to(embeddings).T
        chances, classes = logits.softmax(1).max(1)
        return classes.cpu().numpy(), chances.double().cpu().numpy()


def cut(picture: np.ndarray, mask: np.ndarray, crop: Crop) -> np.ndarray:
    """The square of a picture [H, W, 3] around what a mask [H, W] is of: uint8 [S, S, 3]."""
    rows, columns = (np.nonzero(mask.any(axis=axis))[0] for axis in (1, 0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    side = round((1 + 2 * _MARGIN) * max(height, width))
    top, left = rows[0] - (side - height) // 2, columns[0] - (side - width) // 2  # may be outside
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = picture.reshape(-1, 3).mean(0).round()
    inside = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    seen = picture[inside]
    there = square[inside[0].start - top :, inside[1].start - left :][: seen.shape[0], : seen.shape[1]]
    shown = mask[inside] if crop == "mask" else np.ones(seen.shape[:2], dtype=bool)
    there[shown] = seen[shown]
    return square
