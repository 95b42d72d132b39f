"""From texts to tokens: CLIP's own vocabulary, which open_clip has, or the one beside a parent, as bytes.

The latter is `tokenizer.json`, with padding and truncation settled in it. It travels with a merged model as a tensor,
so that the model can be asked in words wherever it is.

Axis letters: T texts, n tokens.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vfmerge.errors import InputError, one_line

from ..hub.origin import Origin

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
_CLIP = 49408  # words of OpenAI's vocabulary


def is_standard(text: Any) -> bool:
    """Whether a text tower's config is of one with OpenAI's vocabulary."""
    return text.model_type == "clip_text_model" and text.vocab_size == _CLIP


def read(origin: Origin, text: Any) -> bytes:
    """What a merged model has to keep of an origin's tokenizer; nothing where it has none, or open_clip's will do."""
    path = None if is_standard(text) else origin.file(FILE)
    if path is None:
        return b""
    try:
        words = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no type of its own
        raise InputError(one_line(f"{path}: is no tokenizer ({error}); save it anew")) from None
    settings = _settings(origin)
    token = settings.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    known = words.token_to_id(token) if isinstance(token, str) else None
    pad = known if known is not None else text.pad_token_id or 0
    if max(words.get_vocab().values(), default=-1) >= text.vocab_size or pad >= text.vocab_size:
        raise InputError(one_line(f"{path}: has more words than the text tower's {text.vocab_size}; give its own"))
    words.enable_truncation(text.max_position_embeddings)
    side = "left" if settings.get("padding_side") == "left" else "right"
    words.enable_padding(direction=side, pad_id=pad, length=text.max_position_embeddings)
    return words.to_str().encode()


def tokenise(texts: Sequence[str], text: Any, *, vocabulary: bytes) -> Tensor:
    """Tokens [T, n] of texts for a text tower of that config. Raises InputError where there are no words for it."""
    if is_standard(text):
        return torch.as_tensor(_openai(text.max_position_embeddings)(list(texts)))
    if not vocabulary:
        reason = f"its parent had no {FILE} beside its weights"
        raise InputError(f"texts: this model has no words for them, for {reason}; put it there and merge again")
    lowered = [each.lower() for each in texts] if text.model_type == "siglip_text_model" else list(texts)
    return torch.tensor([each.ids for each in _own(vocabulary).encode_batch(lowered)])


def _settings(origin: Origin) -> dict[str, Any]:
    path = origin.file(SETTINGS)
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(one_line(f"{path}: cannot be read as JSON ({error}); save it anew")) from error
    return content if isinstance(content, dict) else {}


@functools.lru_cache(maxsize=4)
def _openai(length: int) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=length)


@functools.lru_cache(maxsize=4)
def _own(vocabulary: bytes) -> Tokenizer:
    return Tokenizer.from_str(vocabulary.decode())
