"""What one of the models that stand side by side answers: the merged one with all of its heads, a parent with its own.

Whoever has both heads, for words and for masks, shows them the same padded square, so that its trunk sees a picture
once (see `vfmerge.square`); a parent that knows words alone sees pictures as it likes best.

Axis letters: H x W pixels of a picture, h x w cells of it, K names, D embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfmerge.benchmarks.cells import Cells
from vfmerge.benchmarks.predictions import run_lengths
from vfmerge.benchmarks.prompts import choose
from vfmerge.candidates import NOTHING
from vfmerge.capability import (
    Capability,
    Dense,
    ImageText,
    Promptable,
    PromptableRecognition,
    RecognisedImage,
    Vocabulary,
)
from vfmerge.capability import PromptableImage as Prompted
from vfmerge.heads import Able, Heads, only
from vfmerge.segmentation import BACKGROUND, Segmenter
from vfmerge.square import SquarePrompts
from vfmerge.store import Store
from vfmerge.templates import embed_classes, embed_sentences

from .newest import Newest
from .patches import Patches
from .questions import Thing

_SCALE = 100.0  # of cosines before the softmax over names; CLIP's own is about this
_PICTURES, _WORDS = 2, 4  # encoded pictures and lists of names that are remembered

Answer = dict[str, Any]
"""What goes to the browser, plain as JSON. Masks are COCO's compressed run lengths."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """One thing that was asked for. mask: bool [H, W]. iou: how good the model thinks it is, in 0..1.

    chances: of each name [K], or none where nobody names it.
    """

    mask: np.ndarray
    iou: float
    chances: Tensor | None = None

    def plain(self, names: Sequence[str]) -> Answer:
        answer: Answer = {
            "mask": run_lengths(self.mask[None])[0],
            "area": int(self.mask.sum()),
            "iou": _short(self.iou),
        }
        if self.chances is not None:
            best = int(self.chances.argmax())
            answer |= {"name": names[best], "score": _short(float(self.chances[best]))}
        return answer


class Exhibit:
    """One of the models. key: what questions call it. title: what people do. patches: its dense heads."""

    patches: Patches

    def __init__(
        self,
        capabilities: Mapping[str, Capability],
        *,
        key: str,
        title: str,
        tasks: Sequence[str],
        parents: Sequence[Exhibit] = (),
    ) -> None:
        """capabilities: by task. tasks: heads to take where several could answer. parents: beside which it stands.

        Raises InputError where several could and none is named.
        """
        heads = Heads.of(capabilities)
        self.key, self.title = key, title
        self._reader = _chosen(heads.image_text, tasks, ImageText.name)
        self._outliner = _chosen(heads.promptable, tasks, Promptable.name)
        self._recogniser = _chosen(heads.recognition, tasks, PromptableRecognition.name)
        self._square = None if self._outliner is None else SquarePrompts(self._outliner)
        dense = {task: each for task, each in capabilities.items() if isinstance(each, Dense)}
        theirs = {task: parent.patches for parent in parents for task in parent.patches.tasks}
        self.patches = Patches(dense, parents=theirs)
        self._prompted: Newest[str, Prompted] = Newest(count=_PICTURES)
        self._recognised: Newest[str, RecognisedImage] = Newest(count=_PICTURES)
        self._segmenters: Newest[tuple[str, ...], Segmenter] = Newest(count=_WORDS)
        self._words: Newest[tuple[str, ...], Tensor] = Newest(count=_WORDS)
        self._vocabularies: Newest[tuple[str, ...], Vocabulary] = Newest(count=_WORDS)

    @property
    def does(self) -> dict[str, bool]:
        """What it answers: outlines of things, names of these, things by name (and how similar what is to a name), and
        features of cells.
        """
        masks = self._square is not None or self._recogniser is not None
        reads = self._reader is not None
        names = masks and (reads or self._recogniser is not None)
        return {"outline": masks, "name": names, "find": reads, "features": bool(self.patches.tasks)}

    @torch.no_grad()
    def outline(self, picture: np.ndarray, things: Sequence[Thing], names: tuple[str, ...], *, key: str) -> Answer:
        """The mask of each thing, and which of the names, if there are some, is likeliest.

        picture: uint8 [H, W, 3]. key: its id, by which it is remembered.
        """
        if self._recogniser is not None and (names or self._square is None):
            found = [self._recognise(picture, thing, names, key=key) for thing in things]
        elif self._square is not None:
            found = [self._outline(picture, thing, key=key) for thing in things]
            if names and self._reader is not None:
                found = self._name(picture, found, names)
        else:
            return {"things": []}
        return {"things": [each.plain(names) for each in found]}

    @torch.no_grad()
    def find(self, picture: np.ndarray, names: tuple[str, ...]) -> Answer:
        """What is called by names: a label map, as the mask of each name, and the things one by one with scores.

        A model that knows no outlines gives the label map of its cells, and no things.
        Raises InputError for names that cannot be used.
        """
        if self._reader is None:
            return {"regions": [], "things": []}
        if self._square is None:
            labels = self._cells(names, background=True).label(picture, name="")
            return {"regions": _regions(np.where(labels < len(names), labels, NOTHING), names), "things": []}
        segmenter = self._segmenters.recall(names, lambda: self._segmenter(names))
        found = segmenter.segment(picture)
        things = [
            {"name": names[number], "score": _short(score), "area": int(mask.sum()), "mask": run_lengths(mask[None])[0]}
            for number, score, mask in zip(found.mask_classes, found.scores, found.masks, strict=True)
        ]
        return {"regions": _regions(found.labels, names), "things": things}

    @torch.no_grad()
    def similar(self, picture: np.ndarray, names: tuple[str, ...]) -> Answer:
        """The cosine of every cell to each name, in -1..1: K times h * w, row by row."""
        if self._reader is None:
            return {"height": 0, "width": 0, "maps": {}}
        cells = self._cells(names, background=False)
        if self._square is None:
            cosines = cells.logits(picture)
        else:
            square = self._square.square(picture)
            cosines = square.cells(cells.logits(square.pixels))
        maps = {
            name: [round(value, 4) for value in row.flatten().tolist()]
            for name, row in zip(names, cosines, strict=True)
        }
        return {"height": cosines.shape[1], "width": cosines.shape[2], "maps": maps}

    def _outline(self, picture: np.ndarray, thing: Thing, *, key: str) -> Outline:
        square = self._square
        assert square is not None
        image = self._prompted.recall(key, lambda: square.set_image(picture))
        logits, ious = choose(image, **_prompts(thing))
        return Outline(mask=(logits[0] > 0).cpu().numpy(), iou=float(ious[0]))

    def _recognise(self, picture: np.ndarray, thing: Thing, names: tuple[str, ...], *, key: str) -> Outline:
        """By the head that was made for it. It does not know which names its labels had: all count as new to it."""
        recogniser = self._recogniser
        assert recogniser is not None
        image = self._recognised.recall(key, lambda: recogniser.set_image(picture))
        vocabulary = self._vocabularies.recall(names, lambda: _vocabulary(recogniser, names or ("thing",)))
        found = image.recognise(vocabulary, **_prompts(thing))
        chances = found.scores[0].float().cpu() if names else None
        return Outline(mask=(found.logits[0] > 0).cpu().numpy(), iou=float(found.ious[0]), chances=chances)

    def _name(self, picture: np.ndarray, found: Sequence[Outline], names: tuple[str, ...]) -> list[Outline]:
        """By what lies under their masks, in one look at the picture."""
        assert self._reader is not None
        assert self._square is not None
        if not found:
            return []
        square = self._square.square(picture)
        masks = square.masks(torch.from_numpy(np.stack([each.mask for each in found])))
        regions = self._reader.encode_regions(square.pixels, masks, size=self._square.fixed_size)  # [N, D]
        chances = (_SCALE * regions.float().cpu() @ self._embed(names).T).softmax(1)
        return [dataclasses.replace(each, chances=row) for each, row in zip(found, chances, strict=True)]

    def _cells(self, names: tuple[str, ...], *, background: bool) -> Cells:
        assert self._reader is not None
        return Cells(
            self._reader,
            words=self._embed((*names, BACKGROUND) if background else names),
            size=None if self._square is None else self._square.fixed_size,
            scale=1.0,
            background="prompt" if background else "ignore",
            threshold=0.0,
        )

    def _embed(self, names: tuple[str, ...]) -> Tensor:
        """Unit embeddings [K, D] of names."""
        reader = self._reader
        assert reader is not None
        return self._words.recall(names, lambda: embed_classes(reader, names, templates="plain", store=Store()))

    def _segmenter(self, names: tuple[str, ...]) -> Segmenter:
        assert self._reader is not None
        assert self._outliner is not None
        return Segmenter({"words": self._reader, "masks": self._outliner}, names, background=BACKGROUND)


def _chosen(able: Mapping[str, Able], tasks: Sequence[str], kind: str) -> Able | None:
    return only(able, wanted=tasks, kind=kind, option="--task") if able else None


def _prompts(thing: Thing) -> dict[str, Tensor]:
    """A thing as `PromptableImage.predict` takes it: one prompt."""
    prompts: dict[str, Tensor] = {}
    if thing.points:
        prompts["points"] = torch.tensor([[[point.x, point.y] for point in thing.points]], dtype=torch.float32)
        prompts["labels"] = torch.tensor([[int(point.inside) for point in thing.points]])
    if thing.box is not None:
        box = thing.box
        prompts["boxes"] = torch.tensor([[box.x0, box.y0, box.x1, box.y1]], dtype=torch.float32)
    return prompts


def _vocabulary(recogniser: PromptableRecognition, names: tuple[str, ...]) -> Vocabulary:
    words = embed_sentences(recogniser, names, templates="vild")
    return Vocabulary(words=words, seen=torch.zeros(len(words), dtype=torch.bool))


def _regions(labels: np.ndarray, names: Sequence[str]) -> list[Answer]:
    """A label map, int64 [H, W] of numbers of names, below 0 for none, as the mask of each name that is there."""
    masks = {number: labels == number for number in np.unique(labels[labels >= 0]).tolist()}
    return [
        {"name": names[number], "area": int(mask.sum()), "mask": run_lengths(mask[None])[0]}
        for number, mask in masks.items()
    ]


def _short(value: float) -> float:
    return round(float(value), 4)
