"""A text-aligned task as graphs: a head, and a text tower.

Axis letters: B images, T texts, t tokens, D embedding width, h x w cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..text_aligned.aligned import TextAligned
from ..text_aligned.head import ClipHead
from ..text_aligned.use import PictureText
from ..transformers_clip.text import TextTower
from .clip_folder import config_of
from .graph import Frame, Graph, word
from .parts import Aligned, Texts
from .task_graphs import Answers, Say, TaskGraphs

if TYPE_CHECKING:
    import numpy as np


class ImageTextGraphs(TaskGraphs):
    """A learnt head works at every encoder's size, so that it can share a pass; a CLIP's own at its own alone."""

    @property
    def frame(self) -> Frame:
        return self._head.size

    @property
    def _head(self) -> TextAligned:
        head = self.model.heads[self.task]
        assert isinstance(head, TextAligned)
        return head

    def seeing(self, features: Mapping[str, Tensor], *, frame: Frame) -> Iterator[Graph]:
        cells = isinstance(self._head, ClipHead)
        if not cells and frame != self.frame:
            return
        yield Graph(
            name=f"{self.task}_head_{word(frame)}",
            about="features to unit embeddings of images" + (" and of their cells" if cells else ""),
            module=Aligned(self._head, maps=self._maps),
            inputs=dict(features),
            free={name: {0: "images"} for name in features},
            outputs=("embeddings", "cells") if cells else ("embeddings",),
        )

    def further(self) -> Iterator[Graph]:
        yield Graph(
            name=f"{self.task}_text",
            about="tokens of the CLIP's own tokenizer, padded to this length, to unit embeddings of texts",
            module=Texts(self._head.text),
            inputs={"tokens": self._tokens(2)},
            free={"tokens": {0: "texts"}},
            outputs=("embeddings",),
        )

    def look(self, picture: np.ndarray) -> None:
        self.model.capability(self.task).encode_image([picture])

    def said(self, say: Say, features: tuple[Tensor, ...], pictures: Sequence[np.ndarray]) -> Answers:
        """Of pictures, and of as many texts."""
        (texts,) = say(f"{self.task}_text", [self._tokens(len(pictures))])
        return self._seen(say, features, frame=self.frame) | {f"{self.task}: texts": texts}

    def said_beside(self, say: Say, features: tuple[Tensor, ...], *, frame: Frame) -> Answers:
        return self._seen(say, features, frame=frame) if isinstance(self._head, ClipHead) else {}

    def own(self, picture: np.ndarray) -> Answers:
        capability = self.model.capability(self.task)
        assert isinstance(capability, PictureText)
        with torch.no_grad():
            texts = capability.encode_text(self._tokens(1), normalize=True)
        return {f"{self.task}: embeddings": capability.encode_image([picture]), f"{self.task}: texts": texts}

    def _seen(self, say: Say, features: tuple[Tensor, ...], *, frame: Frame) -> Answers:
        given = say(f"{self.task}_head_{word(frame)}", features)
        return {f"{self.task}: {name}": each for name, each in zip(("embeddings", "cells"), given, strict=False)}

    def _tokens(self, texts: int) -> Tensor:
        """Some tokens, int64 [T, t]."""
        text = self._head.text
        if isinstance(text, TextTower):
            length = int(text.model.config.max_position_embeddings)
        else:
            length = int(config_of(self._made, self.task).model_cfg.text_cfg.get("context_length", 77))  # open_clip's
        return torch.arange(1, 1 + texts * length).view(texts, length)
