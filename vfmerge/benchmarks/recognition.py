"""Promptable recognition: the mask and the name that a prompt calls up, against the thing that it was taken from.

Open-Vocabulary SAM, arXiv 2401.02955, section 4: the mean over things of their IoU, and the share of things that are
named right, of classes that were seen in training (base), of the others (novel), and of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, ImageText, Promptable, PromptableRecognition
from vfmerge.data import paths
from vfmerge.data.source import Source
from vfmerge.errors import InputError, one_line
from vfmerge.templates import Templates

from .answers import Answerer, Judged, Outliner, Recogniser, judge, lines
from .benchmark import Benchmark, Score, Setup, image_text_of, promptable_of, ratio, recogniser_of, samples, score
from .cascade import Crop
from .crops import FeatureCrops, ImageCrops
from .things import DetectedBoxes, Points, Prompter, Things, TightBoxes

_CONTROLS = ("image_crop", "feature_crop", "neck_only", "no_fusion")
"""Names of what is measured beside a merged model."""


class Recognition(Benchmark):
    """Masks and names from prompts: box_iou and box_accuracy, point_iou and point_accuracy, means over things.

    Where the data has novel classes there are those of things of base and of novel classes too, box_iou_base,
    box_iou_novel and so on. All classes of the data compete for every thing. IoUs are set against those of the
    promptable parent for the same prompts; no parent has names for masks, so accuracies are set against the baselines.

    promptable_recognition: the task that is measured. promptable, image_text: the parents that outline and that know
    words, which the baselines are made of.
    templates: the sentences that a class is compared in, the nearest of which counts.
    limit: at most so many pictures. masks: at most so many things of a picture, the first ones, asked for in one call.
    prompts: tight `boxes` of the true masks, `points`, one pixel of each, or `both`.
    detections: a detector's boxes, as in `instance_ap`, instead of the true ones: of these the one that overlaps the
    true one most, whatever class it was given. What has none of IoU 0.5 counts as IoU 0 and misnamed. The metrics are
    called detected_iou and detected_accuracy.
    size: side in pixels at which feature crops look at a picture; none is the segmenter's own.
    crop: what an image crop shows, all in the `box` (chosen here), or the `mask` alone on the picture's mean colour.
    beside: further tasks of the merged model that recognise, each measured as a row of its own.
    """

    def __init__(
        self,
        *,
        promptable_recognition: str = "recognition",
        promptable: str = "sam",
        image_text: str = "clip",
        templates: Templates = "vild",
        limit: Annotated[int, Field(ge=1)] | None = None,
        masks: Annotated[int, Field(ge=1)] = 32,
        prompts: Literal["both", "boxes", "points"] = "both",
        detections: str | None = None,
        size: Annotated[int, Field(ge=8)] | None = None,
        crop: Crop = "box",
        beside: tuple[str, ...] = (),
    ) -> None:
        if detections is not None and prompts == "points":
            raise InputError("detections: no box is asked for with `prompts: points`; leave one of them out")
        for name in beside:
            if name in (*_CONTROLS, promptable_recognition) or beside.count(name) > 1:
                raise InputError(one_line(f"beside: {name!r} is measured already; leave it out"))
        self._task, self._promptable, self._image_text = promptable_recognition, promptable, image_text
        self._templates, self._limit, self._masks, self._prompts = templates, limit, masks, prompts
        self._detections = None if detections is None else paths.file(detections, option="detections")
        self._size, self._crop, self.further = size, crop, beside

    def tasks(self) -> dict[str, str]:
        return {
            PromptableRecognition.name: self._task,
            Promptable.name: self._promptable,
            ImageText.name: self._image_text,
        }

    def lacks(self, source: Source) -> str:
        missing = [] if source.has_masks else ["masks"]
        if not source.classes:
            missing.append("class names")
        if self._detections is not None and source.annotations is None:
            missing.append("annotations file of COCO's or LVIS's format")
        return " and ".join(missing)

    def digest(self) -> str:
        """A SHA-256 of the detections."""
        return "" if self._detections is None else hashlib.sha256(paths.read_whole(self._detections)).hexdigest()

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        answerer = self.answerer(model, source)
        if answerer is None:
            return []
        base = np.array([name not in source.unseen for name in source.classes])
        prompters = self._prompters(source)
        judged: dict[str, list[Judged]] = {prompter.name: [] for prompter in prompters}
        for sample in samples(source, limit=self._limit, setup=setup):
            things = Things.of(sample, most=self._masks)
            if not len(things):
                continue
            ask = answerer.look(sample.image)
            for prompter in prompters:
                prompts = prompter.ask(sample, things)
                answer = ask(prompts) if len(prompts.places) else None
                marks = judge(things, prompts, answer, base=base, named=answerer.named)
                judged[prompter.name].append(marks)
                if setup.predictions.wanted:
                    for line in lines(things, prompts, answer, marks, classes=source.classes):
                        setup.predictions.line(prompter.file, {"name": sample.name} | line)
        if not any(judged.values()):
            raise InputError(f"no picture with masks and labels among {len(source)}; give data that has both")
        return [each for name, some in judged.items() for each in self._scores(name, some, split=not base.all())]

    def beside(
        self, parents: Mapping[str, Capability], merged: Mapping[str, Capability]
    ) -> dict[str, Mapping[str, Capability]]:
        """The paper's two baselines, of the parents; and of the merged model: what it is without recognition.

        image_crop, feature_crop: tables 1 and 2. neck_only: the merged segmenter's masks in the place of the parent's
        (table 7, before CLIP2SAM). no_fusion: the recogniser without the frozen parent's word. And `beside`.
        """
        found: dict[str, PromptableRecognition] = {}
        promptable, image_text = promptable_of(parents, self._promptable), image_text_of(parents, self._image_text)
        if promptable and image_text:
            found["image_crop"] = ImageCrops(promptable, image_text, crop=self._crop)
            found["feature_crop"] = FeatureCrops(promptable, image_text, size=self._size)
        promptable, image_text = promptable_of(merged, self._promptable), image_text_of(merged, self._image_text)
        if promptable and image_text:
            found["neck_only"] = FeatureCrops(promptable, image_text, size=self._size)
        for name in self.further:
            if further := recogniser_of(merged, name):
                found[name] = further
        recogniser = recogniser_of(merged, self._task)
        if recogniser and (alone := recogniser.alone()):
            found["no_fusion"] = alone
        return {name: {self._task: each} for name, each in found.items()}

    def answerer(self, model: Mapping[str, Capability], source: Source) -> Answerer | None:
        """What answers prompts, with names if the model knows some; none where nothing does."""
        recogniser, promptable = recogniser_of(model, self._task), promptable_of(model, self._promptable)
        if recogniser is not None:
            words = recogniser.vocabulary(source.classes, templates=self._templates, unseen=source.unseen)
            return Recogniser(recogniser, words)
        return Outliner(promptable) if promptable is not None else None

    def _prompters(self, source: Source) -> list[Prompter]:
        found: list[Prompter] = []
        if self._detections is not None:
            assert source.annotations is not None
            found.append(DetectedBoxes(self._detections, annotations=source.annotations))
        elif self._prompts != "points":
            found.append(TightBoxes())
        return found if self._prompts == "boxes" else [*found, Points()]

    def _scores(self, prompts: str, judged: Sequence[Judged], *, split: bool) -> Iterator[Score]:
        """The metrics of one kind of prompts. split: whether there are novel classes.

        What the data has no thing of is left out.
        """
        every = [np.ones_like(each.seen) for each in judged]
        groups = {"": every}
        if split:
            seen = [each.seen for each in judged]
            groups |= {"_base": seen, "_novel": [~each for each in seen]}
        skills = {"iou": (self._promptable, [each.ious for each in judged])}
        if right := [each.right for each in judged if each.right is not None]:
            skills["accuracy"] = self._task, right
        for name, (task, marks) in skills.items():
            for suffix, chosen in groups.items():
                pairs = zip(marks, chosen, strict=True)
                values = np.array([(mark[some].sum(), some.sum()) for mark, some in pairs], dtype=float)
                if values.any():
                    metric, n = f"{prompts}_{name}{suffix}", int(values[:, 1].sum())
                    yield score(metric=metric, task=task, values=values, reduce=ratio, n=n)
