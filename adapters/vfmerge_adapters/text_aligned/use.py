"""What a person does with a CLIP: embed pictures, texts and cells. The same for the parent and a merged model.

There are two ways to ask. With pictures and texts, as `ImageText` says, for unit embeddings without gradients; and as a
model of open_clip is asked, with what its `preprocess` and `tokenizer` made, for embeddings as long as they come, with
gradients where they are wanted. Code that was written for a model of open_clip runs on both.

Axis letters: B pictures or images, H x W pixels, T texts, n tokens, D embedding width, h x w cells, N masks.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vfmerge.capability import ImageText, as_picture, as_pictures
from vfmerge.errors import InputError

from .aligned import TextAligned
from .regions import embed_regions

if TYPE_CHECKING:
    import numpy as np

    from vfmerge.adapter import Features
    from vfmerge.capability import Pictures
    from vfmerge.images import One
    from vfmerge.model import Network

Colours = tuple[float, float, float]

SCALE = math.log(100)  # of the contrastive loss, where CLIP's training clips it (arXiv 2103.00020, section 2.5)


class PictureText(ImageText, abc.ABC):
    """A network whose head is text-aligned, with its parent's preprocessing and words."""

    def __init__(self, network: Network, *, mean: Colours, std: Colours, bias: float | None) -> None:
        """mean, std: of colours in [0, 1], by which `preprocess` normalises. bias: of its loss, if that has one."""
        assert isinstance(network.head, TextAligned)
        super().__init__(network)
        self.head = network.head
        self.fixed_size = network.head.fixed_size
        self._mean, self._std, self._bias = mean, std, bias

    @property
    @abc.abstractmethod
    def preprocess(self) -> Callable[[Any], Tensor]:
        """An image of Pillow's -> an image [3, H, W], normalised, at the head's default size."""

    @property
    @abc.abstractmethod
    def tokenizer(self) -> Callable[..., Tensor]:
        """A text or several -> tokens [T, n]."""

    @abc.abstractmethod
    def prepare(self, pictures: Sequence[np.ndarray], *, height: int, width: int, stretch: bool) -> Tensor:
        """Pictures, uint8 [H, W, 3], as images [B, 3, H, W] in [0, 1]: as `preprocess` makes them, or stretched."""

    @abc.abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [T, D], of any length."""

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of what a cosine is multiplied by. It is no part of a merged model: this is CLIP's own."""
        return torch.tensor(SCALE, device=self.device)

    @property
    def logit_bias(self) -> Tensor | None:
        """What is added to a scaled cosine, or none. It is no part of a merged model either."""
        return None if self._bias is None else torch.tensor(self._bias, device=self.device)

    def features(self, images: Tensor) -> Features:
        return self.head.features(self.network.trunk, images)

    def encode_image(self, images: Pictures, normalize: bool = False, *, size: int | None = None) -> Tensor:
        """Unit embeddings [B, D] of pictures, one or several in any form of `vfmerge.images`.

        images: or a float tensor [B, 3, H, W] as `preprocess` makes images (not in [0, 1]): their embeddings are unit
        ones only if `normalize` says so, and `size` is their own.
        """
        if isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point():
            return self._embed(self._restore(images), normalize=normalize)
        with torch.no_grad():
            return self._embed(self._look(images, size=size, stretch=False), normalize=True)

    @torch.no_grad()
    def encode_cells(self, pictures: Pictures, *, size: int | None = None) -> Tensor:
        images = self._look(pictures, size=size, stretch=True)
        return F.normalize(self.head.cells(self.network.trunk, images), dim=1)

    @torch.no_grad()
    def encode_regions(self, picture: One, masks: Tensor, *, size: int | None = None) -> Tensor:
        """As any model does, or as its head does that has `regions`: the picture stretched to a square of `size`."""
        one = as_picture(picture)
        if not self.head.regional:
            return super().encode_regions(one, masks, size=size)
        images = self._look(one, size=size, stretch=True)
        return F.normalize(embed_regions(self.head, self.network.trunk, images, masks), dim=-1)

    def encode_text(self, texts: str | Sequence[str] | Tensor, normalize: bool = False) -> Tensor:
        """Unit embeddings [T, D] of texts; of tokens [T, n], as `tokenizer` makes them, only if `normalize` says so."""
        if isinstance(texts, Tensor):
            embeddings = self.head.text(texts.to(self.device)).float()
            return F.normalize(embeddings, dim=-1) if normalize else embeddings
        if not len(texts) and not isinstance(texts, str):
            return torch.zeros(0, self.head.embedding, device=self.device)
        with torch.no_grad():
            return F.normalize(self.embed_texts([texts] if isinstance(texts, str) else texts).float(), dim=-1)

    def __call__(self, image: Tensor | None = None, text: Tensor | None = None) -> tuple[Tensor | None, ...]:
        """As a model of open_clip: unit embeddings of images and of tokens, none of what is not given; the scale that
        cosines are multiplied by; and what is added then, if there is such a bias.
        """
        seen = None if image is None else self.encode_image(image, normalize=True)
        said = None if text is None else self.encode_text(text, normalize=True)
        bias = () if self.logit_bias is None else (self.logit_bias,)
        return seen, said, self.logit_scale.exp(), *bias

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """As a model of open_clip: of each image for all texts [B, T], and the other way round."""
        seen, said, scale, *bias = self(image, text)
        assert seen is not None
        assert said is not None
        logits = scale * seen @ said.T + sum(bias)
        return logits, logits.T

    def _embed(self, images: Tensor, *, normalize: bool) -> Tensor:
        """Embeddings [B, D] of images [B, 3, H, W] in [0, 1]; a parent looks at them at its own size."""
        if not len(images):
            return torch.zeros(0, self.head.embedding, device=self.device)
        embeddings = self.head.embed(self.network.encode(self.network.fit(images)))
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def _restore(self, images: Tensor) -> Tensor:
        """What `preprocess` gave, [B, 3, H, W], as colours in [0, 1]: normalisation is the trunk's own."""
        if images.shape[1] != 3:
            raise InputError(f"images: have {images.shape[1]} channels; give RGB, [B, 3, H, W], as `preprocess` does")
        self._require(*images.shape[-2:])
        mean, std = (torch.tensor(each, device=self.device).view(3, 1, 1) for each in (self._mean, self._std))
        return (images.to(self.device, torch.promote_types(images.dtype, torch.float32)) * std + mean).to(self.dtype)

    def _look(self, pictures: Pictures, *, size: int | None, stretch: bool) -> Tensor:
        """Images [B, 3, H, W] in [0, 1], where and as the trunk takes them."""
        height, width = self.head.size if size is None else (size, size)
        self._require(height, width)
        loaded = self.prepare(as_pictures(pictures), height=height, width=width, stretch=stretch)
        return loaded.to(self.device, self.dtype)

    def _require(self, height: int, width: int) -> None:
        """Raises InputError for a size that the trunk does not take. The default is no multiple in a few CLIPs."""
        stride = self.head.stride
        if self.fixed_size is not None and (height, width) != (self.fixed_size, self.fixed_size):
            raise InputError(f"size: {height} x {width} does not fit the trunk, which takes {self.fixed_size} alone")
        if (height, width) != self.head.size and (min(height, width) < 1 or height % stride or width % stride):
            raise InputError(f"size: {height} x {width} is no multiple of the trunk's {stride} pixels a cell; mend it")
