"""How promptable recognition is shown: what boxes call up, and what it is called.

Axis letters: N things of a picture, T classes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vfmerge.benchmarks.answers import Answerer, judge
from vfmerge.benchmarks.prompts import tight_boxes
from vfmerge.benchmarks.recognition import Recognition
from vfmerge.benchmarks.things import Prompts, Things
from vfmerge.capability import Capability, ImageText, Promptable
from vfmerge.data.source import Sample, Source
from vfmerge.subject import Subject

from .cutouts import Boxes, Cutouts
from .names import Name
from .view import Column, View, Views

_MOST = 8  # things of a picture, the largest (chosen here): more names could not be read
_KEY = f"Boxes ask for a picture's things, at most {_MOST}, the largest. A wrong name is struck through"
_NOVEL = "; a star stands before the names of novel classes, which no label taught"
_SCORED = (
    "Under a picture stand how many things are named right, and the mean IoU of their masks. Pictures are ranked by "
    "the merged model's mean IoU, in which a misnamed thing counts as 0."
)


class RecognitionViews(Views):
    """Picture, truth, the parent that outlines, the parents one after the other, and the merged model.

    All are asked for the same things by the boxes of the true masks.
    """

    def __init__(self, benchmark: Recognition, source: Source, *, parents: Subject, merged: Subject) -> None:
        """parents: those that are there."""
        self._benchmark, self._labelled = benchmark, source
        self._base = np.array([name not in source.unseen for name in source.classes])  # [T]
        key = f"{_KEY}{_NOVEL if source.unseen else ''}."
        super().__init__(source, list(self._columns(parents, merged)), key=key, scored=_SCORED)

    def crowd(self, sample: Sample) -> int:
        return len(_things(sample))

    def legend(self, shown: Sequence[Sample]) -> list[tuple[str, str]]:
        """None: there may be more classes than colours, and names stand beside the things."""
        return []

    def _columns(self, parents: Subject, merged: Subject) -> Iterator[Column]:
        yield Column(key="picture", title="picture", subtitle="held out, and what is asked", look=_framed)
        yield Column(key="truth", title="ground truth", subtitle="what is there", look=self._true)
        names = self._benchmark.tasks()
        outlining, reading = names[Promptable.name], names[ImageText.name]
        if outlining in parents.capabilities:
            title, subtitle = f"parent {outlining}", "knows no names"
            yield self._column(parents.part([outlining]).capabilities, key=outlining, title=title, subtitle=subtitle)
        beside = self._benchmark.beside(parents.capabilities, merged.capabilities)
        for key, title, subtitle in (
            ("image_crop", "image crops", f"cut out by {outlining}, named by {reading}"),
            ("feature_crop", "feature crops", f"{reading}'s features in {outlining}'s masks"),
        ):
            if key in beside:
                yield self._column(beside[key], key=key, title=title, subtitle=subtitle)
        subtitle = "one encoder, outlines and names"
        yield self._column(merged.capabilities, key="merged", title="merged model", subtitle=subtitle)

    def _column(self, model: Mapping[str, Capability], *, key: str, title: str, subtitle: str) -> Column:
        """The column of a model that answers prompts."""
        answerer = self._benchmark.answerer(model, self._labelled)
        assert answerer is not None
        look = functools.partial(self._answer, answerer=answerer)
        return Column(key=key, title=title, subtitle=subtitle, look=look)

    def _true(self, sample: Sample) -> View:
        things, boxes = _asked(sample)
        names = [self._name(label) for label in things.labels]
        return View(panel=Cutouts(picture=sample.image, boxes=boxes, masks=things.masks, names=names))

    def _answer(self, sample: Sample, *, answerer: Answerer) -> View:
        """Scored by the mean IoU; of a model that knows names, that of what it misnames is 0."""
        things, boxes = _asked(sample)
        prompts = Prompts(places=np.arange(len(things)), boxes=boxes)
        answer = answerer.look(sample.image)(prompts)
        judged = judge(things, prompts, answer, base=self._base, named=answerer.named)
        names, right, said = [], np.ones(len(things)), f"IoU {judged.ious.mean():.2f}"
        if answer.scores is not None and judged.right is not None:
            right, said = judged.right, f"{judged.right.sum()} of {len(things)} right, {said}"
            given = answer.scores.argmax(1).tolist()
            names = [self._name(label, wrong=not holds) for label, holds in zip(given, right, strict=True)]
        panel = Cutouts(picture=sample.image, boxes=boxes, masks=answer.masks.cpu().numpy(), names=names)
        return View(panel=panel, score=float((judged.ious * right).mean()), said=said)

    def _name(self, label: int, *, wrong: bool = False) -> Name:
        return Name(text=self._labelled.classes[label], wrong=wrong, novel=not self._base[label])


def _things(sample: Sample) -> Things:
    """The largest of a picture, in the order of the data."""
    every = Things.of(sample, most=0 if sample.masks is None else len(sample.masks))
    kept = np.sort(np.argsort(-every.masks.sum(axis=(1, 2)), kind="stable")[:_MOST])
    return Things(masks=every.masks[kept], labels=every.labels[kept])


def _asked(sample: Sample) -> tuple[Things, np.ndarray]:
    """Things, and the boxes [N, 4] that ask for them."""
    things = _things(sample)
    return things, tight_boxes(things.masks)


def _framed(sample: Sample) -> View:
    return View(panel=Boxes(picture=sample.image, boxes=_asked(sample)[1]))
