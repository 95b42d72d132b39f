"""How a merged model answers the question of `vfmerge predict`, picture by picture, each in one pass of the trunk.

Axis letters: H x W pixels, N masks, K names, S sentences of a name, D embedding width.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vfmerge.benchmarks.everything import Everything, Masks
from vfmerge.benchmarks.prompts import choose
from vfmerge.capability import Capability, ImageText, Promptable, PromptableRecognition, Vocabulary
from vfmerge.heads import Heads, only
from vfmerge.predict.question import Question
from vfmerge.segmentation import NOTHING, Segmenter
from vfmerge.square import SquarePrompts
from vfmerge.store import Store
from vfmerge.templates import embed_classes, embed_sentences

_SCALE = 100.0  # of cosines before the softmax over names; CLIP's own is about this
_AT_ONCE, _PIXELS = 32, 2**26  # at most so many masks, and pixels of them, are named at once


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What was found in a picture.

    masks: N times bool [H, W]. scores: float [N], in 0..1: how sure the name is, or without names the mask.
    classes: int64 [N], the number of each mask's name; none without names. ious: float [N], how good the model thinks
    each mask is, in 0..1; none where names were looked for. regions: int64 [H, W], the number of a name for each pixel,
    or without names of a mask, -1 for none.
    """

    masks: np.ndarray | Masks
    scores: np.ndarray
    classes: np.ndarray | None
    ious: np.ndarray | None
    regions: np.ndarray


class Answerer(abc.ABC):
    """Answers one question about one picture after another."""

    @abc.abstractmethod
    def answer(self, picture: np.ndarray) -> Answer:
        """picture: uint8 [H, W, 3]."""


def answerer(capabilities: Mapping[str, Capability], question: Question, *, tasks: Sequence[str]) -> Answerer:
    """What answers a question, of a model's capabilities by task.

    tasks: heads to take where several could answer. Raises InputError where the model has none that can, or several.
    """
    heads = Heads.of(capabilities)
    promptable = only(heads.promptable, wanted=tasks, kind=Promptable.name)
    if not question.classes:
        return _outliner(promptable, question)
    if question.prompted and heads.recognition:
        return _Recognise(only(heads.recognition, wanted=tasks, kind=PromptableRecognition.name), question)
    image_text = only(heads.image_text, wanted=tasks, kind=ImageText.name)
    if not question.everything and not question.prompted:
        return _Find(image_text, promptable, question)
    shared = SquarePrompts(promptable)
    return _Name(_outliner(shared, question), shared, image_text, question.classes)


def _outliner(promptable: Promptable, question: Question) -> Answerer:
    """What finds masks without names."""
    return _Everything(promptable, question) if question.everything else _Outline(promptable, question)


class _Find(Answerer):
    """Names alone: text to masks."""

    def __init__(self, image_text: ImageText, promptable: Promptable, question: Question) -> None:
        heads = {"words": image_text, "masks": promptable}
        self._segmenter = Segmenter(heads, question.classes, background=question.background)

    def answer(self, picture: np.ndarray) -> Answer:
        found = self._segmenter.segment(picture)
        return Answer(
            masks=found.masks, scores=found.scores, classes=found.mask_classes, ious=None, regions=found.labels
        )


class _Outline(Answerer):
    """Points and boxes without names."""

    def __init__(self, promptable: Promptable, question: Question) -> None:
        self._promptable, self._question = promptable, question

    def answer(self, picture: np.ndarray) -> Answer:
        image = self._promptable.set_image(picture)
        found = [_Masks.of(*choose(image, **prompts)) for prompts in _prompts(self._question, picture)]
        return _outlined(found)


class _Everything(Answerer):
    """Whatever there is, without names."""

    def __init__(self, promptable: Promptable, question: Question) -> None:
        self._promptable = promptable
        self._everything = Everything(grid=question.grid, stability=question.stability)

    def answer(self, picture: np.ndarray) -> Answer:
        masks = self._everything.find(self._promptable, picture)
        numbers = np.arange(len(masks))
        return Answer(
            masks=masks,
            scores=masks.scores,
            classes=None,
            ious=masks.scores,
            regions=paint(masks, numbers, frame=masks.frame),
        )


class _Name(Answerer):
    """Masks that another answerer found, each called by the likeliest of some names, from one look at the picture."""

    def __init__(
        self, outliner: Answerer, shared: SquarePrompts, image_text: ImageText, classes: Sequence[str]
    ) -> None:
        self._outliner, self._shared, self._image_text = outliner, shared, image_text
        self._words = embed_classes(image_text, classes, templates="plain", store=Store())  # [K, D]

    @torch.no_grad()
    def answer(self, picture: np.ndarray) -> Answer:
        found = self._outliner.answer(picture)
        square = self._shared.square(picture)
        size = max(1, min(_AT_ONCE, _PIXELS // picture[..., 0].size))
        scores, classes = [np.zeros(0, dtype=np.float32)], [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(found.masks), size):
            some = np.stack([found.masks[number] for number in range(start, min(start + size, len(found.masks)))])
            masks = square.masks(torch.from_numpy(some))
            regions = self._image_text.encode_regions(square.pixels, masks, size=self._shared.fixed_size)  # [N, D]
            chance = (_SCALE * regions.float().cpu() @ self._words.T).softmax(1)
            best = chance.max(1)
            scores.append(best.values.numpy())
            classes.append(best.indices.numpy())
        return _named(found, np.concatenate(classes), np.concatenate(scores))


class _Recognise(Answerer):
    """Points and boxes, with names from the head that was made for it.

    It does not know which names its labels had: all count as names that it was not taught with.
    """

    def __init__(self, recogniser: PromptableRecognition, question: Question) -> None:
        self._recogniser, self._question = recogniser, question
        words = embed_sentences(recogniser, question.classes, templates="vild")  # [K, S, D]; its paper's sentences
        self._vocabulary = Vocabulary(words=words, seen=torch.zeros(len(words), dtype=torch.bool))

    def answer(self, picture: np.ndarray) -> Answer:
        image = self._recogniser.set_image(picture)
        found, scores = [], []
        for prompts in _prompts(self._question, picture):
            some = image.recognise(self._vocabulary, **prompts)
            found.append(_Masks.of(some.logits, some.ious))
            scores.append(some.scores.float().cpu())
        best = torch.cat(scores).max(1)
        return _named(_outlined(found), best.indices.numpy(), best.values.numpy())


def _prompts(question: Question, picture: np.ndarray) -> Iterator[dict[str, Tensor]]:
    """Points, then boxes, some at a time, as `PromptableImage.predict` takes them: each asks for a mask of its own."""
    size = max(1, min(_AT_ONCE, _PIXELS // (3 * picture[..., 0].size)))  # a point has three masks
    for start in range(0, len(question.points), size):
        points = torch.tensor(question.points[start : start + size], dtype=torch.float32)[:, None]  # [N, 1, 2]
        yield {"points": points, "labels": torch.ones(points.shape[:2], dtype=torch.long)}
    for start in range(0, len(question.boxes), size):
        yield {"boxes": torch.tensor(question.boxes[start : start + size], dtype=torch.float32)}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Masks:
    """What some prompts called up. masks: bool [N, H, W]. ious: float32 [N]."""

    masks: np.ndarray
    ious: np.ndarray

    @classmethod
    def of(cls, logits: Tensor, ious: Tensor) -> _Masks:
        return cls(masks=(logits > 0).cpu().numpy(), ious=ious.float().cpu().numpy())


def _outlined(found: Sequence[_Masks]) -> Answer:
    """An answer without names."""
    masks, ious = np.concatenate([each.masks for each in found]), np.concatenate([each.ious for each in found])
    regions = paint(masks, np.arange(len(masks)), frame=masks.shape[1:])
    return Answer(masks=masks, scores=ious, classes=None, ious=ious, regions=regions)


def _named(found: Answer, classes: np.ndarray, scores: np.ndarray) -> Answer:
    """An answer with names [N] and how sure they are [N]."""
    regions = paint(found.masks, classes, frame=found.regions.shape)
    return dataclasses.replace(found, classes=classes, scores=scores, regions=regions)


def paint(masks: np.ndarray | Masks, numbers: np.ndarray, *, frame: tuple[int, ...]) -> np.ndarray:
    """Masks, N times bool [H, W], in one map of their numbers [N], int64 [H, W]: the smaller lie over the larger."""
    regions = np.full(frame, NOTHING, dtype=np.int64)
    areas = masks.areas if isinstance(masks, Masks) else masks.sum(axis=(1, 2))
    for number in np.argsort(-areas, kind="stable"):
        regions[masks[number]] = numbers[number]
    return regions
