"""What a person does with a CLIP of `transformers`, the same for the parent and a merged model.

Preprocessing and tokens are the library's own (`hub.preprocess` says which of its two), so that a parent's embeddings
equal its.

Axis letters: B pictures, T texts, n tokens, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize

from ..hub.preprocess import Preprocess
from ..text_aligned.use import PictureText

if TYPE_CHECKING:
    from vfmerge.model import Network


class Embedder(PictureText):
    """A CLIP or SigLIP of `transformers`."""

    def __init__(self, network: Network, *, preprocess: Preprocess) -> None:
        super().__init__(network, mean=preprocess.mean, std=preprocess.std, bias=None)
        self._preprocess = preprocess

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        return Compose([self._square, Normalize(self._preprocess.mean, self._preprocess.std)])

    @property
    def tokenizer(self) -> Callable[..., Tensor]:
        """Raises InputError, when it is called, where the tower has no words."""
        return self._tokenise

    def prepare(self, pictures: Sequence[np.ndarray], *, height: int, width: int, stretch: bool) -> Tensor:
        assert height == width
        look = self._preprocess.stretch if stretch else self._preprocess.square
        return look(pictures, size=height)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        embeddings: Tensor = self.head.text.embed(texts)
        return embeddings

    def text_key(self) -> str:
        key: str = self.head.text.key()
        return key

    def _square(self, image: Image.Image) -> Tensor:
        """An image of Pillow's as [3, H, W] in [0, 1]."""
        return self._preprocess.square([np.asarray(image.convert("RGB"))], size=self.head.size[0])[0]

    def _tokenise(self, texts: str | Sequence[str]) -> Tensor:
        """Tokens [T, n]."""
        tokens: Tensor = self.head.text.tokenise([texts] if isinstance(texts, str) else texts)
        return tokens
