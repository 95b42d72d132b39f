"""A text tower of `transformers`, with its words.

Axis letters: T texts, n tokens, D embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vfmerge import weights

from .vocabulary import is_standard, tokenise

_TEXTS = 256  # a batch


class TextTower(nn.Module):
    """Texts to embeddings; tokens [T, n] -> embeddings [T, D], not normalised.

    model: the library's. projection: what leads from it into the space that images share, or nothing.
    """

    vocabulary: Tensor | None

    def __init__(self, model: nn.Module, projection: nn.Module, *, vocabulary: int) -> None:
        """vocabulary: how many bytes of its own words it keeps."""
        super().__init__()
        self.model, self.projection = model, projection
        self.register_buffer("vocabulary", torch.zeros(vocabulary, dtype=torch.uint8) if vocabulary else None)

    def forward(self, tokens: Tensor) -> Tensor:
        embeddings: Tensor = self.projection(self.model(tokens).pooler_output)
        return embeddings

    def embed(self, texts: Sequence[str]) -> Tensor:
        """[T, D], not normalised. Raises InputError where the tower has no words."""
        tokens = self.tokenise(texts).to(next(self.parameters()).device)
        return self._embed_short(tokens) if self._is_causal else torch.cat([self(p) for p in tokens.split(_TEXTS)])

    def tokenise(self, texts: Sequence[str]) -> Tensor:
        """Tokens [T, n]. Raises InputError where the tower has no words."""
        return tokenise(texts, self._config, vocabulary=self._words())

    def key(self) -> str:
        """A hash of all that embeddings of texts depend on."""
        return weights.fingerprint(self, json.dumps(self._config.to_dict(), sort_keys=True, default=str))

    @property
    def _config(self) -> Any:
        return self.model.config

    @property
    def _is_causal(self) -> bool:
        """Whether what stands behind a text's end has no say in its embedding: so it is in CLIP, not in SigLIP."""
        return self._config.model_type == "clip_text_model"

    def _embed_short(self, tokens: Tensor) -> Tensor:
        """The same, of no more tokens than there are. Texts of one length go together: most of 77 are padding."""
        end = self._config.eos_token_id
        last = tokens if end == 2 else (tokens == end).int()  # 2: older configs; the highest number is meant
        ends = last.argmax(dim=1)
        order = ends.argsort(stable=True)
        parts = [self(tokens[rows, : int(ends[rows].max()) + 1]) for rows in order.split(_TEXTS)]
        return torch.cat(parts)[order.argsort()]

    def _words(self) -> bytes:
        if self.vocabulary is None or is_standard(self._config):
            return b""
        return self.vocabulary.cpu().numpy().tobytes()
