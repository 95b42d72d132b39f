"""What a person does with a CLIP: embed pictures, texts and cells. The same for the parent and a merged model.

Preprocessing and tokens are the library's own (`hub.preprocess` says which of its two), so that a parent's embeddings
equal its.

Axis letters: B pictures, T texts, D embedding width, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vfmerge.capability import ImageText
from vfmerge.errors import InputError

from ..hub.preprocess import Preprocess
from ..text_aligned.aligned import TextAligned
from ..text_aligned.regions import embed_regions

if TYPE_CHECKING:
    import numpy as np

    from vfmerge.adapter import Features
    from vfmerge.model import Network


class Embedder(ImageText):
    """A network whose head is text-aligned, with its parent's preprocessing and words."""

    def __init__(self, network: Network, *, preprocess: Preprocess) -> None:
        assert isinstance(network.head, TextAligned)
        super().__init__(network)
        self._head, self._preprocess = network.head, preprocess
        self.fixed_size = network.head.fixed_size

    def features(self, images: Tensor) -> Features:
        return self._head.features(self.network.trunk, images)

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        images = self._preprocess.square(pictures, size=self._side(size)).to(self._device)
        seen = self.network.encode(self.network.fit(images))  # a parent looks at its own size
        return F.normalize(self._head.embed(seen), dim=-1)

    @torch.no_grad()
    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        images = self._preprocess.stretch(pictures, size=self._side(size)).to(self._device)
        return F.normalize(self._head.cells(self.network.trunk, images), dim=1)

    @torch.no_grad()
    def encode_regions(self, picture: np.ndarray, masks: Tensor, *, size: int | None = None) -> Tensor:
        """As any model does, or as its head does that has `regions`: the picture stretched to a square of `size`."""
        if not self._head.regional:
            return super().encode_regions(picture, masks, size=size)
        images = self._preprocess.stretch([picture], size=self._side(size)).to(self._device)
        return F.normalize(embed_regions(self._head, self.network.trunk, images, masks), dim=-1)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(self._head.text.embed(texts).float(), dim=-1)

    def text_key(self) -> str:
        key: str = self._head.text.key()
        return key

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _side(self, size: int | None) -> int:
        """Side of the square that is looked at."""
        side, stride = self._head.size[0] if size is None else size, self._head.stride
        fits = self.fixed_size in (None, side) and (side % stride == 0 or side == self._head.size[0])
        if side < 1 or not fits:
            takes = f"{self.fixed_size} alone" if self.fixed_size else f"multiples of {stride}"
            raise InputError(f"size: {side} does not fit the trunk, which takes {takes}; mend it")
        return side
