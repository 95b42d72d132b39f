"""How zero-shot segmentation is shown: every pixel in the colour of the class that it is given.

Axis letters: N things of a picture, H x W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from vfmerge import store
from vfmerge.benchmarks.benchmark import promptable_of
from vfmerge.benchmarks.cells import Labeller
from vfmerge.benchmarks.prompts import from_boxes, tight_boxes
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation, annotated, count, label_map, mean_iou
from vfmerge.capability import ImageText, Promptable
from vfmerge.data.source import Sample, Source
from vfmerge.subject import Subject

from .panel import CLASSES, THINGS
from .regions import Regions
from .view import Column, View, Views, bare

_SCORED = "The figure under a picture is its mean IoU with the truth over the classes and the background there."
_TITLES = {  # of controls that are worth a column
    "pipeline": ("both parents", "two encoders, same pipeline"),
    "cascade": ("cascade", "masks of everything, crops named"),
    "probe": ("head probing", "the trunk stays the base's"),
    "naive": ("without rehearsal", "naive distillation"),
}


class SegmentationViews(Views):
    """Picture, truth, parents, controls in the order of `_TITLES`, and the merged model."""

    def __init__(
        self, benchmark: ZeroShotSegmentation, source: Source, *, parents: Subject, models: Sequence[Subject]
    ) -> None:
        """parents: those that are there. models: the merged model first, then controls."""
        self._benchmark, self._classes = benchmark, source.classes
        super().__init__(source, list(self._columns(parents, models)), scored=_SCORED)

    def crowd(self, sample: Sample) -> int:
        """None where no pixel has a class."""
        if not annotated(sample):
            return 0
        truth = label_map(sample, background=len(self._classes))
        return len(things(sample)) if ((truth >= 0) & (truth < len(self._classes))).any() else 0

    def legend(self, shown: Sequence[Sample]) -> list[tuple[str, str]]:
        maps = (label_map(sample, background=len(self._classes)) for sample in shown)
        there = {int(label) for labels in maps for label in np.unique(labels) if 0 <= label < len(self._classes)}
        return [(CLASSES[label % len(CLASSES)], self._classes[label]) for label in sorted(there)]

    def _columns(self, parents: Subject, models: Sequence[Subject]) -> Iterator[Column]:
        yield Column(key="picture", title="picture", subtitle="held out", look=bare)
        yield Column(key="truth", title="ground truth", subtitle="what is there", look=self._true)
        names = self._benchmark.tasks()
        segmenter, reader = names[Promptable.name], names[ImageText.name]
        if found := promptable_of(parents.capabilities, segmenter):
            title, subtitle = f"parent {segmenter}", "given boxes; knows no names"
            look = functools.partial(_outline, segmenter=found)
            yield Column(key=segmenter, title=title, subtitle=subtitle, look=look)
        if reader in parents.capabilities:
            title, subtitle = f"parent {reader}", "its cells; knows no outlines"
            yield self._labelled(parents.part([reader]), key=reader, title=title, subtitle=subtitle)
        known = {model.control: model for model in models[1:]}
        for control, (title, subtitle) in _TITLES.items():
            if control in known:
                yield self._labelled(known[control], key=control, title=title, subtitle=subtitle, control=True)
        subtitle = "names and outlines, unprompted"
        yield self._labelled(models[0], key="merged", title="merged model", subtitle=subtitle)

    def _labelled(self, model: Subject, *, key: str, title: str, subtitle: str, control: bool = False) -> Column:
        """The column of a model that labels pixels."""
        used = self._benchmark.cascade() if model.way == "cascade" else self._benchmark
        labeller = used.labeller(model.capabilities, self._classes, store=store.default())
        look = functools.partial(self._label, labeller=labeller)
        return Column(key=key, title=title, subtitle=subtitle, look=look, control=control)

    def _true(self, sample: Sample) -> View:
        return View(panel=self._map(sample, label_map(sample, background=len(self._classes))))

    def _label(self, sample: Sample, *, labeller: Labeller) -> View:
        """Scored by the mean IoU over the classes and the background that are in the picture."""
        labels, background = labeller.label(sample.image, name=sample.name), len(self._classes)
        counts = count(labels, label_map(sample, background=background), classes=background + 1)
        return View(panel=self._map(sample, labels), score=mean_iou(counts[None]))

    def _map(self, sample: Sample, labels: np.ndarray) -> Regions:
        """A label map; the number after the last class is the background."""
        colours = [CLASSES[number % len(CLASSES)] for number in range(len(self._classes))]
        regions = np.where(labels < len(self._classes), labels, -1)
        return Regions(picture=sample.image, regions=regions, colours=colours, names=self._classes)


def things(sample: Sample) -> np.ndarray:
    """What lies in an annotated picture: its masks, or, where it has a map alone, all of a class as one [N, H, W]."""
    if sample.masks is not None:
        return sample.masks[sample.masks.any(axis=(1, 2))]
    assert sample.pixels is not None
    there = np.unique(sample.pixels[sample.pixels >= 0])
    return np.asarray(sample.pixels == there[:, None, None])


def _outline(sample: Sample, *, segmenter: Promptable) -> View:
    """What a segmenter makes of the boxes of the true masks, the smaller over the larger."""
    regions = np.full(sample.image.shape[:2], -1)
    found = (from_boxes(segmenter.set_image(sample.image), tight_boxes(things(sample))) > 0).cpu().numpy()
    for number in np.argsort(-found.sum(axis=(1, 2)), kind="stable"):
        regions[found[number]] = number
    colours = [THINGS[number % len(THINGS)] for number in range(len(found))]
    return View(panel=Regions(picture=sample.image, regions=regions, colours=colours, names=[""] * len(found)))
