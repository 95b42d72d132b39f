"""Recognition by two models one after the other: what the one outlines is looked at, and named, by the other.

The two baselines of Open-Vocabulary SAM, arXiv 2401.02955, figure 2 and tables 1 and 2: SAM's masks are cut out of the
picture, or out of CLIP's features of the whole picture.

Axis letters: N prompts, P points a prompt, T classes, H x W pixels, D embedding width.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vfmerge.capability import ImageText, Promptable, PromptableRecognition, RecognisedImage, Recognition, Vocabulary

from .benchmark import batched
from .cascade import Crop, cut
from .prompts import choose

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vfmerge.capability import PromptableImage

SCALE = 100.0
"""What cosines are multiplied by before a softmax over classes, as in the published code."""

_AT_ONCE = 16  # crops embedded in one call


class Crops(PromptableRecognition, abc.ABC):
    """Masks of a promptable model, named by the class whose text is nearest to what lies under them.

    `network` is the promptable's alone; the other model has its own.
    """

    def __init__(self, promptable: Promptable, image_text: ImageText) -> None:
        super().__init__(promptable.network)
        self.fixed_size = promptable.fixed_size
        self.promptable, self.image_text = promptable, image_text

    @abc.abstractmethod
    def embed(self, picture: np.ndarray, masks: Tensor) -> Tensor:
        """Embeddings [N, D] of what lies under masks, bool [N, H, W], in a picture."""

    def set_image(self, picture: np.ndarray) -> RecognisedImage:
        return _Cropped(self, picture, self.promptable.set_image(picture))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self.image_text.encode_text(texts)

    def text_key(self) -> str:
        return self.image_text.text_key()


class ImageCrops(Crops):
    """Each mask's surroundings are cut out, and looked at as a picture of its own.

    crop: what is shown, as in `cascade.cut`.
    """

    def __init__(self, promptable: Promptable, image_text: ImageText, *, crop: Crop) -> None:
        super().__init__(promptable, image_text)
        self._crop: Crop = crop

    def embed(self, picture: np.ndarray, masks: Tensor) -> Tensor:
        import torch

        whole = torch.ones_like(masks[:1])  # what has no pixel has no surroundings
        found = torch.where(masks.flatten(1).any(1)[:, None, None], masks, whole).cpu().numpy()
        cuts = (cut(picture, mask, self._crop) for mask in found)
        return torch.cat([self.image_text.encode_image(some) for some in batched(cuts, _AT_ONCE)])


class FeatureCrops(Crops):
    """The picture is looked at once, as a whole, and each mask is cut out of its features.

    size: side in pixels at which it is looked at; none is the promptable's own, so that both see the same picture.
    """

    def __init__(self, promptable: Promptable, image_text: ImageText, *, size: int | None) -> None:
        super().__init__(promptable, image_text)
        self._size = image_text.fixed_size or size or promptable.fixed_size

    def embed(self, picture: np.ndarray, masks: Tensor) -> Tensor:
        return self.image_text.encode_regions(picture, masks, size=self._size)


class _Cropped(RecognisedImage):
    """A picture, as it is and encoded."""

    def __init__(self, crops: Crops, picture: np.ndarray, image: PromptableImage) -> None:
        self._crops, self._picture, self._image = crops, picture, image

    def recognise(
        self,
        vocabulary: Vocabulary,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Recognition:
        logits, ious = choose(self._image, boxes=boxes, points=points, labels=labels)
        embeddings = self._crops.embed(self._picture, logits > 0)
        scores = (SCALE * vocabulary.similarity(embeddings)).softmax(1)  # [N, T]
        return Recognition(logits=logits, ious=ious, scores=scores)
