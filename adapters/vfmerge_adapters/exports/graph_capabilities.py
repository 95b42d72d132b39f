"""What a person does with a merged model's graphs, so that benchmarks can measure what their runtime answers.

Pictures and texts become tensors as the model's own capabilities make them; all else is computed by graphs.

Axis letters: B images, S side of the input, T texts, t tokens, D embedding width, h x w cells, M prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vfmerge.adapter import Features
from vfmerge.capability import Capability, ImageText, Promptable, PromptableImage
from vfmerge.errors import InputError
from vfmerge.model import MergedModel

from ..promptable.head import PromptedHead
from ..promptable.image import SegmenterImage
from ..promptable.placement import place
from ..promptable.predictor import Predictor
from ..promptable.prompts import Prompts, alike
from ..text_aligned.use import PictureText
from .graph import Graph, word
from .task_graphs import Say

if TYPE_CHECKING:
    import numpy as np

_TEXTS = 256  # a batch


def capabilities(model: MergedModel, made: Iterable[Graph], run: Say) -> dict[str, Capability]:
    """Of the tasks that embed pictures and texts, or answer prompts. run: a graph by its name."""
    lengths = {each.name: each.inputs["tokens"].shape[1] for each in made if "tokens" in each.inputs}
    found: dict[str, Capability] = {}
    for task in model.heads:
        asked = model.capability(task)
        if isinstance(asked, Predictor):
            found[task] = GraphSegmenter(task, asked, run)
        elif isinstance(asked, PictureText):
            found[task] = GraphEmbedder(task, asked, run, tokens=lengths[f"{task}_text"])
    return found


class GraphSegmenter(Promptable):
    """Masks by the graphs of encoder, neck and decoders."""

    def __init__(self, task: str, asked: Predictor, run: Say) -> None:
        """asked: the model's own, for how a picture becomes an input."""
        super().__init__(asked.network)
        self._asked, self._run = asked, run
        self._head = GraphHead(task, asked.head, run)
        self.fixed_size = asked.fixed_size

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        asked, side = self._asked, self._head.side
        square, placement = place(
            picture, side=side, padding=asked.padding, resize=asked.resize, device=torch.device("cpu")
        )
        features = self._run(f"encoder_{side}", [square])
        return SegmenterImage(self._head, self._head.neck(features), placement=placement)


class GraphHead(PromptedHead):
    """A neck and mask decoders that are graphs."""

    def __init__(self, task: str, head: PromptedHead, run: Say) -> None:
        """head: that they were made of, for which mask is taken."""
        super().__init__(side=head.side)
        self.alike = head.alike
        self._task, self._run, self._single = task, run, head.single

    def neck(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the encoder's graph gives -> the maps that masks are decoded from."""
        return self._run(f"{self._task}_neck", features)

    def embed(self, features: Features) -> tuple[Tensor, ...]:
        return self.neck(features.maps if features.summary is None else (*features.maps, features.summary))

    def decode(self, maps: tuple[Tensor, ...], prompts: Prompts, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
        assert frame == (self.side, self.side)
        if self.alike and not prompts.alike:
            parts = alike(prompts)
            order = torch.cat([rows for rows, _ in parts]).argsort()
            logits, ious = zip(*(self.decode(maps, each, frame) for _, each in parts), strict=True)
            return torch.cat(logits)[order], torch.cat(ious)[order]
        given = [prompts.coords, prompts.labels, prompts.owner]
        if prompts.masks is None:
            logits, ious = self._run(f"{self._task}_decoder", [*given, *maps])
        else:
            logits, ious = self._run(f"{self._task}_decoder_masks", [*given, prompts.masks, *maps])
        return logits, ious

    def single(self, logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
        return self._single(logits, ious)


class GraphEmbedder(ImageText):
    """Embeddings by the graphs of encoder, head and text tower, at the sizes that there are graphs for."""

    def __init__(self, task: str, asked: PictureText, run: Say, *, tokens: int) -> None:
        """asked: the model's own, for its preprocessing and tokenizer. tokens: of a text."""
        super().__init__(asked.network)
        self._task, self._asked, self._run, self._tokens = task, asked, run, tokens

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        return self._embed(pictures, size=size, stretch=False)[0]

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        found = self._embed(pictures, size=size, stretch=True)
        if len(found) < 2:
            raise InputError(f"{self._task}: a CLIP's own head has no graph for cells; measure the merged model's")
        return found[1]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        tokens = self._asked.tokenizer(list(texts)).cpu()  # [T, t]
        whole = F.pad(tokens, (0, self._tokens - tokens.shape[1]))
        return torch.cat([self._run(f"{self._task}_text", [part])[0] for part in whole.split(_TEXTS)])

    def text_key(self) -> str:
        return self._asked.text_key()

    def _embed(self, pictures: Sequence[np.ndarray], *, size: int | None, stretch: bool) -> tuple[Tensor, ...]:
        """What the head's graph gives. Raises InputError for a size that there is no graph for."""
        height, width = self._asked.head.size if size is None else (size, size)
        images = self._asked.prepare(pictures, height=height, width=width, stretch=stretch)
        side = word((height, width))
        features = self._run(f"encoder_{side}", [images])
        return self._run(f"{self._task}_head_{side}", features)
