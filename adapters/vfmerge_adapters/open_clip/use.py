"""What a person does with a CLIP of open_clip, the same for the parent and a merged model.

Preprocessing and tokens are open_clip's own, so that a parent's embeddings equal open_clip's.

Axis letters: T texts, n tokens, D embedding width.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from vfmerge import weights
from vfmerge.errors import InputError, one_line

from ..text_aligned.use import Colours, PictureText
from .config import Config

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from vfmerge.model import Network

_TEXTS = 256  # a batch


class Embedder(PictureText):
    """A CLIP of open_clip: both ways of asking are open_clip's own, preprocessing and tokens too."""

    def __init__(self, network: Network, *, config: Config, folder: Path | None) -> None:
        """folder: where a tokenizer's files may lie, if anywhere."""
        shown, loss = config.preprocess_cfg, config.model_cfg.model_dump()
        super().__init__(network, mean=shown.mean, std=shown.std, bias=loss.get("init_logit_bias"))
        self._config = config
        self._folder = folder

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        shown = self._config.preprocess_cfg
        return self._transform(self.head.size, mean=shown.mean, std=shown.std, resize_mode=shown.resize_mode)

    @property
    def tokenizer(self) -> Callable[..., Tensor]:
        return _make_tokenizer(json.dumps(self._config.model_cfg.text_cfg), self._folder)

    def prepare(self, pictures: Sequence[np.ndarray], *, height: int, width: int, stretch: bool) -> Tensor:
        resize_mode = "squash" if stretch else self._config.preprocess_cfg.resize_mode
        plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        transform = self._transform((height, width), mean=plain[0], std=plain[1], resize_mode=resize_mode)
        return torch.stack([transform(Image.fromarray(picture)) for picture in pictures])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts)).to(self.device)
        embed = _embed_short if self._config.truncates else _embed_whole
        return embed(self.head.text, tokens)

    def text_key(self) -> str:
        return weights.fingerprint(self.head.text, json.dumps(self._config.model_cfg.text_cfg))

    def _transform(
        self, size: tuple[int, int], *, mean: Colours, std: Colours, resize_mode: str
    ) -> Callable[[Image.Image], Tensor]:
        """open_clip's preprocessing."""
        preprocess = PreprocessCfg(
            size=size,
            mean=mean,
            std=std,
            interpolation=self._config.preprocess_cfg.interpolation,
            resize_mode=resize_mode,
            fill_color=self._config.preprocess_cfg.fill_color,
        )
        return image_transform_v2(preprocess, is_train=False)


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
