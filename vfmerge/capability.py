"""What a person does with a model. A parent and a merged model offer the same capability through the same code.

Every capability takes pictures as they come from a file, uint8 RGB arrays [H, W, 3] of any size, and brings them to its
model's size and normalisation itself. It runs without gradients.

Axis letters: B pictures, H x W pixels, D embedding width, T texts, h x w cells, N prompts, K masks a prompt.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from vfmerge.adapter import Features
    from vfmerge.model import Network

    Picture = np.ndarray  # uint8 [H, W, 3], RGB


class Capability(abc.ABC):
    """Base of all capabilities; `name` is the word that reports use."""

    name: str
    fixed_size: int | None = None
    """Side in pixels of the only square that its model takes; none where it takes several sizes."""

    def __init__(self, network: Network) -> None:
        """network: the trunk and the head that answer; probes and counts look at it too."""
        self.network = network

    @property
    def seen_by(self) -> nn.Module:
        """The module whose work `features` is: of capabilities that share it, one is probed for all."""
        return self.network.trunk

    def features(self, images: Tensor) -> Features:
        """What the trunk sees in images [B, 3, H, W] in [0, 1], for probes that learn from it.

        A parent whose own task needs less than its trunk could give (a CLIP needs no map) gives all of it here.
        """
        return self.network.encode(images)

    @abc.abstractmethod
    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Do once, on one picture, what a person asks of it most, for what that costs; the answer is dropped.

        size: the model's input side in pixels, where it takes several; none is its own default.
        """


class ImageText(Capability):
    """Embed pictures and texts into one space, and cells of pictures too: CLIP's use."""

    name = "image_text"

    @abc.abstractmethod
    def encode_image(self, pictures: Sequence[Picture], *, size: int | None = None) -> Tensor:
        """Unit embeddings [B, D]. size: the model's input side in pixels; none is its own default."""

    @abc.abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings [T, D]."""

    @abc.abstractmethod
    def text_key(self) -> str:
        """A hash of all that embeddings of texts depend on, the same for all models that share a text tower."""

    @abc.abstractmethod
    def encode_cells(self, pictures: Sequence[Picture], *, size: int | None = None) -> Tensor:
        """Unit embeddings of the pictures' cells [B, D, h, w]; the whole picture, stretched to a square of `size`."""

    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Embeds it. Texts are not embedded: a person does that once for all pictures."""
        self.encode_image([picture], size=size)


class Promptable(Capability):
    """Points or boxes to masks: SAM's use."""

    name = "promptable"

    @abc.abstractmethod
    def set_image(self, picture: Picture) -> PromptableImage:
        """Encode a picture once, to be prompted many times."""

    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Encodes it, and decodes one box around its middle."""
        import torch

        height, width = picture.shape[:2]
        box = torch.tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])
        self.set_image(picture).predict(boxes=box)


class PromptableImage(abc.ABC):
    """A picture that waits for prompts. Pixels are the original picture's.

    mask_side: side of the low-resolution masks that `predict` takes, over the padded input square.
    """

    mask_side: int

    @abc.abstractmethod
    def predict(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Masks for N prompts.

        boxes: float [N, 4], x0, y0, x1, y1. points: float [N, P, 2], x and y, with labels int [N, P]: 1 inside, 0
        outside. masks: float [N, 1, mask_side, mask_side], low-resolution logits over the padded input square, as SAM
        returns them.
        multimask: the three masks of an ambiguous prompt (K = 3) instead of the single one (K = 1).
        Returns logits [N, K, H, W] at the picture's own size (a mask is where they exceed 0) and IoU scores [N, K].
        """


class Dense(Capability):
    """Patch features without words: DINO's use."""

    name = "dense"

    @abc.abstractmethod
    def encode_cells(self, pictures: Sequence[Picture], *, size: int | None = None) -> Tensor:
        """Features [B, C, h, w] of the whole pictures, stretched to a square of `size`."""

    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Encodes it."""
        self.encode_cells([picture], size=size)
