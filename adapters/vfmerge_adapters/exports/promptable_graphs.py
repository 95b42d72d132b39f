"""A promptable task as graphs: a neck, and mask decoders.

Axis letters: B images, M prompts of all images together, n points of a prompt, K masks, s side of low-resolution masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..promptable.head import PromptedHead
from ..promptable.predictor import Predictor
from .graph import Axes, Frame, Graph
from .parts import Decoder, Neck, Refiner
from .task_graphs import Answers, Say, TaskGraphs

if TYPE_CHECKING:
    import numpy as np

PROMPT = (
    "coords: x, y in pixels of the encoder's square; labels: 1 inside, 0 outside, 2 and 3 a box's corners, -1 none; "
    "owner: the image of each"
)
FREE: Mapping[str, Axes] = {
    "coords": {0: "prompts", 1: "points"},
    "labels": {0: "prompts", 1: "points"},
    "owner": {0: "prompts"},
}
"""The free axes of what `prompts` gives."""
_ALIKE = "all prompts that are decoded together have as many points, and after these one that is none"
_PLACES = torch.tensor([[[0.2, 0.3], [0.6, 0.7]], [[0.4, 0.5], [0.0, 0.0]], [[0.1, 0.1], [0.7, 0.5]]])  # in sides
_LABELS = torch.tensor([[2, 3], [1, -1], [1, 0]])  # a box, a point, two points
_LABELS_ALIKE = torch.tensor([[2, 3, -1], [1, 1, -1], [1, 0, -1]])


def prompts(side: int, *, images: int, alike: bool) -> dict[str, Tensor]:
    """Coordinates [M, n, 2], labels [M, n] and owners [M] of prompts: one of one image, three of several.

    alike: whether they have as many points, as some heads want it.
    """
    count = 1 if images == 1 else len(_PLACES)
    places, labels = (F.pad(_PLACES, (0, 0, 0, 1)), _LABELS_ALIKE) if alike else (_PLACES, _LABELS)
    return {"coords": places[:count] * side, "labels": labels[:count], "owner": torch.arange(count) % images}


class PromptableGraphs(TaskGraphs):
    """Pictures are encoded and pass the neck once, and are prompted many times."""

    @property
    def frame(self) -> Frame:
        return self._head.side, self._head.side

    @property
    def _head(self) -> PromptedHead:
        head = self.model.heads[self.task]
        assert isinstance(head, PromptedHead)
        return head

    def seeing(self, features: Mapping[str, Tensor], *, frame: Frame) -> Iterator[Graph]:
        if frame != self.frame:
            return
        neck = Neck(self._head, maps=self._maps)
        embedded = {f"embedding_{number}": each for number, each in enumerate(neck(*features.values()))}
        yield Graph(
            name=f"{self.task}_neck",
            about="features to what masks are decoded from: once for each image",
            module=neck,
            inputs=dict(features),
            free={name: {0: "images"} for name in features},
            outputs=tuple(embedded),
        )
        given, side = self._prompts(images=2), 4 * list(embedded.values())[-1].shape[-1]
        meant = f"{PROMPT}; {_ALIKE}" if self._head.alike else PROMPT
        images: dict[str, Axes] = {name: {0: "images"} for name in embedded}
        yield Graph(
            name=f"{self.task}_decoder",
            about=f"prompts to mask logits and scores, the single mask first; {meant}",
            module=Decoder(self._head),
            inputs=given | embedded,
            free={**FREE, **images},
            outputs=("logits", "scores"),
        )
        yield Graph(
            name=f"{self.task}_decoder_masks",
            about=f"the same of prompts with rough masks, logits over the encoder's whole square; {meant}",
            module=Refiner(self._head),
            inputs=given | {"masks": torch.zeros(3, 1, side, side)} | embedded,
            free={**FREE, "masks": {0: "prompts"}, **images},
            outputs=("logits", "scores"),
        )

    def further(self) -> Iterator[Graph]:
        yield from ()

    def look(self, picture: np.ndarray) -> None:
        self.model.capability(self.task).set_image(picture)

    def said(self, say: Say, features: tuple[Tensor, ...], pictures: Sequence[np.ndarray]) -> Answers:
        """Of prompts of every kind, and of the same with the masks that were found."""
        given, maps = self._prompts(images=len(pictures)).values(), say(f"{self.task}_neck", features)
        logits, scores = say(f"{self.task}_decoder", [*given, *maps])
        better, surer = say(f"{self.task}_decoder_masks", [*given, logits[:, :1], *maps])
        return self._named(logits[:1, 1:], scores[:1, 1:]) | {
            f"{self.task}: mask logits": logits,
            f"{self.task}: scores": scores,
            f"{self.task}: refined mask logits": better,
            f"{self.task}: refined scores": surer,
        }

    def said_beside(self, say: Say, features: tuple[Tensor, ...], *, frame: Frame) -> Answers:
        return {}

    def own(self, picture: np.ndarray) -> Answers:
        """Of the first prompt, the masks of an ambiguous one: which is the single one may hang on a rounding."""
        capability = self.model.capability(self.task)
        assert isinstance(capability, Predictor)
        box = _PLACES[:1].flatten(1) * self._head.side
        return self._named(*capability.set_image(picture).decode(boxes=box, placed=True, multimask=True))

    def _prompts(self, *, images: int) -> dict[str, Tensor]:
        return prompts(self._head.side, images=images, alike=self._head.alike)

    def _named(self, masks: Tensor, ious: Tensor) -> Answers:
        return {f"{self.task}: mask logits of a box": masks, f"{self.task}: scores of a box": ious}
