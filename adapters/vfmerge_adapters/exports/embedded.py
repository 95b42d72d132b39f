"""A model of open_clip as an image-text capability, so that benchmarks can measure what open_clip itself answers.

Axis letters: B pictures, T texts, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from open_clip.utils import to_2tuple
from PIL import Image
from torch import Tensor

from vfmerge import weights
from vfmerge.capability import ImageText
from vfmerge.errors import InputError
from vfmerge.model import Network

from .clip_proof import open_folder

if TYPE_CHECKING:
    import numpy as np


class Embedded(ImageText):
    """What `open_clip.create_model_and_transforms` makes of a folder, with its own preprocessing and tokenizer."""

    def __init__(self, folder: Path) -> None:
        self._model, self._preprocess, self._tokenizer = open_folder(folder)
        super().__init__(Network(self._model.visual, self._model))
        self._size = to_2tuple(self._model.visual.image_size)

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        """Raises InputError for a size other than that of its preprocessing."""
        if size is not None and (size, size) != self._size:
            height, width = self._size
            raise InputError(f"size: {size}, and open_clip looks at {height} x {width} alone; give null")
        images = torch.stack([self._preprocess(Image.fromarray(picture)) for picture in pictures])
        return self._model.encode_image(images, normalize=True)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._model.encode_text(self._tokenizer(list(texts)), normalize=True)

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        """Raises InputError: a model of open_clip embeds no cells."""
        raise InputError("encode_cells: a model of open_clip embeds no cells; measure the merged model's")

    def text_key(self) -> str:
        return weights.fingerprint(self._model)
