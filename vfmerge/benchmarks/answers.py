"""What models answer to prompts for things, with names or without, and how much of it is right.

Axis letters: N things of a picture, n of them that are asked for, T classes, H x W pixels.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vfmerge.capability import Promptable, PromptableRecognition, Vocabulary

from .predictions import run_lengths
from .prompts import choose, overlaps
from .things import Prompts, Things

if TYPE_CHECKING:
    from torch import Tensor

_FEW = 5  # classes that a written answer names


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What prompts called up. masks: bool [n, H, W]. scores: [n, T], larger is likelier; none without names."""

    masks: Tensor
    scores: Tensor | None = None


class Answerer(abc.ABC):
    """A model that can be asked for things. named: whether it knows names."""

    named: bool

    @abc.abstractmethod
    def look(self, picture: np.ndarray) -> Callable[[Prompts], Answer]:
        """Encode a picture once; what is returned answers one prompt or more."""


class Recogniser(Answerer):
    """A model that names what it outlines, by the classes of a vocabulary."""

    named = True

    def __init__(self, model: PromptableRecognition, vocabulary: Vocabulary) -> None:
        self._model, self._vocabulary = model, vocabulary

    def look(self, picture: np.ndarray) -> Callable[[Prompts], Answer]:
        image = self._model.set_image(picture)

        def answer(prompts: Prompts) -> Answer:
            found = image.recognise(self._vocabulary, **prompts.arguments())
            return Answer(masks=found.logits > 0, scores=found.scores)

        return answer


class Outliner(Answerer):
    """A model that outlines, and knows no names."""

    named = False

    def __init__(self, model: Promptable) -> None:
        self._model = model

    def look(self, picture: np.ndarray) -> Callable[[Prompts], Answer]:
        image = self._model.set_image(picture)
        return lambda prompts: Answer(masks=choose(image, **prompts.arguments())[0] > 0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What was found out in one picture. seen: bool [N], whether a thing's class is a base class. ious: float [N].

    right: bool [N], whether the name is; none of a model that knows no names.
    """

    seen: np.ndarray
    ious: np.ndarray
    right: np.ndarray | None


def judge(things: Things, prompts: Prompts, answer: Answer | None, *, base: np.ndarray, named: bool) -> Judged:
    """Marks for all things of a picture; one that was not asked for has no IoU and a wrong name.

    answer: none where nothing was asked. base: bool [T], which classes are base classes. named: the model knows names.
    """
    ious, right = np.zeros(len(things)), np.zeros(len(things), dtype=bool)
    if answer is not None:
        ious[prompts.places] = overlaps(answer.masks, things.masks[prompts.places])
        if answer.scores is not None:
            right[prompts.places] = answer.scores.argmax(1).cpu().numpy() == things.labels[prompts.places]
    return Judged(seen=base[things.labels], ious=ious, right=right if named else None)


def lines(
    things: Things, prompts: Prompts, answer: Answer | None, judged: Judged, *, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One record for each thing: what was asked, what came, with the likeliest classes, and what is true."""
    truths = run_lengths(things.masks)
    masks = [] if answer is None else run_lengths(answer.masks.cpu().numpy())
    asked = {place: number for number, place in enumerate(prompts.places.tolist())}
    for place, truth in enumerate(truths):
        number = asked.get(place)
        line = {"number": place, "class": classes[things.labels[place]], "seen": bool(judged.seen[place])}
        line |= {"iou": float(judged.ious[place]), "truth": truth, "prompt": None, "mask": None}
        if number is not None and answer is not None:
            line |= {"prompt": prompts.coordinates[number].tolist(), "mask": masks[number]}
            if answer.scores is not None:
                line["named"] = _likeliest(answer.scores[number], classes)
        yield line


def _likeliest(scores: Tensor, classes: Sequence[str]) -> list[tuple[str, float]]:
    """The few classes of the highest scores [T], each with its own."""
    best = scores.topk(min(_FEW, len(classes)))
    return [(classes[number], value) for number, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
