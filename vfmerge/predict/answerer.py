"""How a merged model answers the question of `vfmerge predict`, picture by picture, each in one pass of the trunk.

Axis letters: H x W pixels of the picture, h x w pixels of what is found in it, N masks, K names, S sentences of a
name, D embedding width.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vfmerge.capability import Capability, ImageText, Promptable, PromptableRecognition, Vocabulary
from vfmerge.errors import InputError, one_line
from vfmerge.heads import Heads, choose
from vfmerge.predict.answer import Answer, named, unnamed
from vfmerge.predict.outline import Every, Outliner, Prompted, PromptedOutlines, prompts
from vfmerge.predict.question import Question
from vfmerge.problem import shown
from vfmerge.reduction import Reduction
from vfmerge.segmentation import Segmenter
from vfmerge.square import ReducedPrompts, SquarePrompts
from vfmerge.store import Store
from vfmerge.templates import embed_classes

_SCALE = 100.0  # of cosines before the softmax over names; CLIP's own is about this
_AT_ONCE, _PIXELS = 32, 2**25  # at most so many masks, and pixels of them, are named at once


class Answerer(abc.ABC):
    """Answers one question about one picture after another."""

    @abc.abstractmethod
    def answer(self, picture: np.ndarray) -> Answer:
        """picture: uint8 [H, W, 3]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cast:
    """The tasks whose heads answer a question: who outlines, who reads names, and who does both at once."""

    promptable: str | None = None
    image_text: str | None = None
    recogniser: str | None = None

    @property
    def tasks(self) -> list[str]:
        """Those that have a part in it."""
        return [task for task in (self.promptable, self.image_text, self.recogniser) if task is not None]


def cast(capabilities: Mapping[str, Capability], question: Question, *, tasks: Sequence[str]) -> Cast:
    """Who answers a question, of a model's capabilities by task.

    tasks: heads to take where several could answer. Names are given by the head that was made for it, where there is
    one, unless a task is wanted that reads texts otherwise.
    Raises InputError where the model has no head that can, or several, and for a task that has no part in it.
    """
    heads = Heads.of(capabilities)
    naming = bool(question.classes) and not question.alone
    recogniser = image_text = promptable = None
    if naming and heads.recognition and not set(tasks) & set(heads.image_text):
        kind = PromptableRecognition.name
        recogniser = choose(heads.recognition, wanted=tasks, kind=kind, option="--task")
    if recogniser is None or question.everything:
        promptable = choose(heads.promptable, wanted=tasks, kind=Promptable.name, option="--task")
    if question.classes and recogniser is None:
        image_text = choose(heads.image_text, wanted=tasks, kind=ImageText.name, option="--task")
    found = Cast(promptable=promptable, image_text=image_text, recogniser=recogniser)
    for task in tasks:
        if task not in found.tasks:
            text = f"--task {shown(task)}: has no part in this answer, which {' and '.join(found.tasks)} give"
            raise InputError(one_line(f"{text}; leave it out"))
    return found


def answerer(capabilities: Mapping[str, Capability], question: Question, *, cast: Cast) -> Answerer:
    """What answers a question."""
    heads = Heads.of(capabilities)
    recogniser = None if cast.recogniser is None else heads.recognition[cast.recogniser]
    if cast.promptable is None:
        assert recogniser is not None
        return _Recognise(recogniser, question)
    promptable = heads.promptable[cast.promptable]
    if recogniser is not None:
        return _RecogniseEvery(Every(ReducedPrompts(promptable), question), recogniser, question.classes)
    if cast.image_text is None:
        return _Outline(_outliner(ReducedPrompts(promptable), question))
    image_text = heads.image_text[cast.image_text]
    if question.alone:
        return _Find(image_text, promptable, question)
    square = SquarePrompts(promptable, reduced=True)
    return _Name(_outliner(square, question), square, image_text, question.classes)


def _outliner(promptable: ReducedPrompts | SquarePrompts, question: Question) -> Outliner:
    return Every(promptable, question) if question.everything else Prompted(promptable, question)


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
    """Outlines without names."""

    def __init__(self, outliner: Outliner) -> None:
        self._outliner = outliner

    def answer(self, picture: np.ndarray) -> Answer:
        found = self._outliner.outline(picture)
        return unnamed(found.masks(), ious=found.ious)


class _Name(Answerer):
    """Outlines, each called by the likeliest of some names, from one look at the picture."""

    def __init__(
        self, outliner: Outliner, square: SquarePrompts, image_text: ImageText, classes: Sequence[str]
    ) -> None:
        self._outliner, self._square, self._image_text = outliner, square, image_text
        self._words = embed_classes(image_text, classes, templates="plain", store=Store())  # [K, D]

    @torch.no_grad()
    def answer(self, picture: np.ndarray) -> Answer:
        found = self._outliner.outline(picture)
        square = self._square.square(picture)
        chances = [torch.zeros(0, len(self._words))]
        for some in _batches(len(found), found.reduction):
            masks = square.masks(torch.from_numpy(np.stack([found.seen(number) for number in some])))
            regions = self._image_text.encode_regions(square.pixels, masks, size=self._square.fixed_size)  # [N, D]
            chances.append((_SCALE * regions.float().cpu() @ self._words.T).softmax(1))
        best = torch.cat(chances).max(1)
        return named(found.masks(), ious=found.ious, classes=best.indices.numpy(), scores=best.values.numpy())


class _Recognise(Answerer):
    """Points and boxes, with masks and names from the head that was made for it."""

    def __init__(self, recogniser: PromptableRecognition, question: Question) -> None:
        self._recogniser, self._question = recogniser, question
        self._vocabulary = _vocabulary(recogniser, question.classes)

    def answer(self, picture: np.ndarray) -> Answer:
        reduction = Reduction.of(picture)
        image = self._recogniser.set_image(reduction.picture(picture))
        all_ = [image.recognise(self._vocabulary, **each) for each in prompts(self._question, reduction)]
        found = PromptedOutlines(reduction, [(each.logits, each.ious) for each in all_])
        best = torch.cat([each.scores.float().cpu() for each in all_]).max(1)
        return named(found.masks(), ious=found.ious, classes=best.indices.numpy(), scores=best.values.numpy())


class _RecogniseEvery(Answerer):
    """Masks of whatever there is, each called as the head that was made for it calls what is in the mask's box."""

    def __init__(self, every: Every, recogniser: PromptableRecognition, classes: Sequence[str]) -> None:
        self._every, self._recogniser = every, recogniser
        self._vocabulary = _vocabulary(recogniser, classes)

    def answer(self, picture: np.ndarray) -> Answer:
        found = self._every.outline(picture)
        scores = [torch.zeros(0, len(self._vocabulary.words))]
        if len(found):
            image = self._recogniser.set_image(found.reduction.picture(picture))
            for some in _batches(len(found), found.reduction):
                boxes = torch.from_numpy(found.boxes[some])
                scores.append(image.recognise(self._vocabulary, boxes=boxes).scores.float().cpu())
        best = torch.cat(scores).max(1)
        return named(found.masks(), ious=found.ious, classes=best.indices.numpy(), scores=best.values.numpy())


def _vocabulary(recogniser: PromptableRecognition, classes: Sequence[str]) -> Vocabulary:
    """The classes by the sentences of Open-Vocabulary SAM (arXiv 2401.02955).

    A model does not say which names its labels had: all count as names that it was not taught with.
    """
    return recogniser.vocabulary(classes, templates="vild", unseen=classes)


def _batches(count: int, reduction: Reduction) -> list[np.ndarray]:
    """The numbers of so many masks, as many at a time as memory is made for."""
    height, width = reduction.inner
    size = max(1, min(_AT_ONCE, _PIXELS // (height * width)))
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
