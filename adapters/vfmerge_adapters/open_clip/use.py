"""What a person does with a CLIP: embed pictures, texts and cells. The same for the parent and a merged model.

Preprocessing and tokens are open_clip's own, so that a parent's embeddings equal open_clip's.

Axis letters: B pictures, T texts, n tokens, D embedding width, h x w cells.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from vfmerge import weights
from vfmerge.capability import ImageText
from vfmerge.errors import InputError, one_line

from ..text_aligned.aligned import TextAligned
from ..text_aligned.regions import embed_regions
from .config import Config

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from vfmerge.adapter import Features
    from vfmerge.model import Network

_TEXTS = 256  # a batch


class Embedder(ImageText):
    """A network whose head is text-aligned, with its parent's preprocessing and tokenizer."""

    def __init__(self, network: Network, *, config: Config, folder: Path | None) -> None:
        """folder: where a tokenizer's files may lie, if anywhere."""
        assert isinstance(network.head, TextAligned)
        super().__init__(network)
        self._head = network.head
        self.fixed_size = network.head.fixed_size
        self._config = config
        self._folder = folder

    def features(self, images: Tensor) -> Features:
        return self._head.features(self.network.trunk, images)

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        images = self._load(pictures, size=size, resize_mode=self._config.preprocess_cfg.resize_mode)
        seen = self.network.encode(self.network.fit(images))  # a parent looks at its own size
        return F.normalize(self._head.embed(seen), dim=-1)

    @torch.no_grad()
    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        images = self._load(pictures, size=size, resize_mode="squash")
        return F.normalize(self._head.cells(self.network.trunk, images), dim=1)

    @torch.no_grad()
    def encode_regions(self, picture: np.ndarray, masks: Tensor, *, size: int | None = None) -> Tensor:
        """As any model does, or as its head does that has `regions`: the picture stretched to a square of `size`."""
        if not self._head.regional:
            return super().encode_regions(picture, masks, size=size)
        images = self._load([picture], size=size, resize_mode="squash")
        return F.normalize(embed_regions(self._head, self.network.trunk, images, masks), dim=-1)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        tokenizer = _make_tokenizer(json.dumps(self._config.model_cfg.text_cfg), self._folder)
        tokens = tokenizer(list(texts)).to(self._device)
        embed = _embed_short if self._config.truncates else _embed_whole
        return F.normalize(embed(self._head.text, tokens).float(), dim=-1)

    def text_key(self) -> str:
        return weights.fingerprint(self._head.text, json.dumps(self._config.model_cfg.text_cfg))

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _load(self, pictures: Sequence[np.ndarray], *, size: int | None, resize_mode: str) -> Tensor:
        """Images [B, 3, H, W] in [0, 1]: open_clip's preprocessing, but for the normalisation, which is the trunk's."""
        height, width = self._head.size if size is None else (size, size)
        self._require(height, width)
        preprocess = PreprocessCfg(
            size=(height, width),
            mean=(0, 0, 0),
            std=(1, 1, 1),
            interpolation=self._config.preprocess_cfg.interpolation,
            resize_mode=resize_mode,
            fill_color=self._config.preprocess_cfg.fill_color,
        )
        transform = image_transform_v2(preprocess, is_train=False)
        return torch.stack([transform(Image.fromarray(picture)) for picture in pictures]).to(self._device)

    def _require(self, height: int, width: int) -> None:
        """Raises InputError for a size that the trunk does not take. The default is no multiple in a few CLIPs."""
        stride = self._head.stride
        if self.fixed_size is not None and (height, width) != (self.fixed_size, self.fixed_size):
            raise InputError(f"size: {height} x {width} does not fit the trunk, which takes {self.fixed_size} alone")
        if (height, width) != self._head.size and (min(height, width) < 1 or height % stride or width % stride):
            raise InputError(f"size: {height} x {width} is no multiple of the trunk's {stride} pixels a cell; mend it")


def _embed_whole(text: nn.Module, tokens: Tensor) -> Tensor:
    """Embeddings [T, D] of tokens [T, n]."""
    return torch.cat([text(part) for part in tokens.split(_TEXTS)])


def _embed_short(text: nn.Module, tokens: Tensor) -> Tensor:
    """As `_embed_whole` for a causal tower that reads a text off at its highest token: what follows has no say.

    Texts of one length go together, so that most of the padding (of 77 tokens, two thirds) is never computed.
    """
    ends = tokens.argmax(dim=1)
    order = ends.argsort(stable=True)
    parts = []
    for rows in order.split(_TEXTS):
        n = int(ends[rows].max()) + 1
        mask = {"attn_mask": text.attn_mask[:n, :n]}  # open_clip's own is for its full length alone
        parts.append(torch.func.functional_call(text, mask, (tokens[rows, :n],)))
    return torch.cat(parts)[order.argsort()]


@functools.lru_cache(maxsize=8)
def _make_tokenizer(text_cfg: str, folder: Path | None) -> Callable[[list[str]], Tensor]:
    """The tokenizer that `open_clip.get_tokenizer` makes for an architecture or, with its files, for a folder.

    text_cfg: the config's, as JSON.
    """
    text = json.loads(text_cfg)
    length, options = text.get("context_length", 77), text.get("tokenizer_kwargs") or {}
    name = text.get("hf_tokenizer_name")
    if not name:
        return SimpleTokenizer(context_length=length, **options)
    source = str(folder) if folder is not None and (folder / "tokenizer_config.json").is_file() else name
    try:
        return HFTokenizer(source, context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **options)
    except (OSError, ValueError) as error:
        message = f"the tokenizer {source} is not here ({error}); connect once, or put it into the hub's cache"
        raise InputError(one_line(message)) from error
