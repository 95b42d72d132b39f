"""Zero-shot semantic segmentation: every pixel gets the class whose text is nearest (SAM-CLIP, arXiv 2310.15308).

Axis letters: B pictures, H x W pixels, h x w cells, K classes with the background if it is one, D embedding width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, ImageText, Promptable
from vfmerge.data.source import BACKGROUND, VOID, Sample, Source
from vfmerge.errors import InputError
from vfmerge.store import Store
from vfmerge.templates import Templates, embed_classes

from .benchmark import Benchmark, Score, Setup, image_text_of, promptable_of, samples, score
from .cascade import Cascade, Crop
from .cells import Background, Cells, Labeller
from .everything import Everything
from .two_heads import TwoHeads

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND_NAME = "background"


class ZeroShotSegmentation(Benchmark):
    """Zero-shot semantic segmentation: miou_head, by text-aligned cells alone; miou_two_heads, where they prompt masks.

    Both are the mean over classes of intersection over union of all pictures' pixels together, over the classes that
    occur in the ground truth, which is the same set for every model. A parent that has no masks to prompt is measured
    by miou_head, and a merged model's miou_two_heads is compared with that. The truth is of the data's pixels, of which
    some may not be judged, or of its masks.

    image_text, promptable: the parents that give the cells and the masks.
    size: input side for cells alone (paper: 448), two_head_size: for cells that prompt masks (paper: 1024); none is the
    model's own default. templates: the 80 of OpenAI (paper), one plain sentence, or sentences with {} for the name.
    limit: at most so many pictures.
    scale: what cosines are multiplied by before a softmax over classes makes them probabilities (CLIP's is about 100).
    background: what a pixel is that belongs to no class. `prompt` makes it one more class, called by background_prompt;
    `threshold` makes it where no class's probability exceeds the threshold; `ignore` does not judge such pixels.
    threshold: probability that a cell must exceed to be a point prompt (paper: 0.5 on VOC), and not to be background.
    points: point prompts of a mask (paper: 1 to 3).
    prompts: one prompt for each class (paper), or for each connected component of a class's cells (chosen here), since
    a picture may hold two things of one class and SAM's mask is of one thing.
    cells: a component of fewer cells is no thing (chosen here: 1).
    mask_scale: a cell's probability of 1 becomes this mask logit, of 0 its negative, of 1/2 zero (chosen here: SAM's
    own mask logits are within about 10); at 0 no mask prompt is given.
    pipeline: `heads` as above. `cascade`, by which the control of that name is measured, has miou_cascade instead, if
    there is something to prompt: masks of everything in the picture, each cut out and named (paper, table 7).
    Of the cascade alone: grid: points a side that masks are looked for with. predicted_iou: the least IoU that the
    segmenter must believe its mask has. stability: the least IoU of the mask with itself at a higher and a lower
    threshold (all three as SAM's own generator has them; small pictures have less stable masks). crop: what is cut out
    shows the `mask` alone on the picture's mean colour, or all in its `box` (chosen here).
    """

    def __init__(
        self,
        *,
        image_text: str = "clip",
        promptable: str = "sam",
        size: Annotated[int, Field(ge=8)] | None = None,
        two_head_size: Annotated[int, Field(ge=8)] | None = None,
        templates: Templates = "openai",
        limit: Annotated[int, Field(ge=1)] | None = None,
        scale: Annotated[float, Field(gt=0)] = 100.0,
        background: Background = "prompt",
        background_prompt: str = "background",
        threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        points: Annotated[int, Field(ge=1)] = 3,
        prompts: Literal["component", "class"] = "component",
        cells: Annotated[int, Field(ge=1)] = 1,
        mask_scale: Annotated[float, Field(ge=0)] = 10.0,
        pipeline: Literal["heads", "cascade"] = "heads",
        grid: Annotated[int, Field(ge=1)] = 32,
        predicted_iou: Annotated[float, Field(ge=0, lt=1)] = 0.88,
        stability: Annotated[float, Field(ge=0, le=1)] = 0.95,
        crop: Crop = "mask",
    ) -> None:
        self._image_text, self._promptable = image_text, promptable
        self._size, self._two_head_size = size, two_head_size
        self._templates, self._limit, self._scale = templates, limit, scale
        self._background, self._background_prompt, self._threshold = background, background_prompt, threshold
        self._points, self._prompts, self._least, self._mask_scale = points, prompts, cells, mask_scale
        self._everything = Everything(grid=grid, iou=predicted_iou, stability=stability)
        self._pipeline, self._crop = pipeline, crop

    def tasks(self) -> dict[str, str]:
        return {ImageText.name: self._image_text, Promptable.name: self._promptable}

    def lacks(self, source: Source) -> str:
        missing = [] if source.has_masks or source.has_pixels else ["masks"]
        return " and ".join(missing if source.classes else [*missing, "class names"])

    def cascade(self) -> ZeroShotSegmentation:
        other = copy.copy(self)
        other._pipeline = "cascade"
        return other

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        if image_text_of(model, self._image_text) is None:
            return []
        background = len(source.classes)
        labellers = self.labellers(model, source.classes, store=setup.store)
        ignored = background if self._background == "ignore" else VOID
        counts: dict[str, list[np.ndarray]] = {metric: [] for metric in labellers}
        setup.predictions.legend([*source.classes, BACKGROUND_NAME])
        for sample in samples(source, limit=self._limit, setup=setup):
            if not annotated(sample):
                continue
            truth = label_map(sample, background=background)
            setup.predictions.labels("truth", sample.name, np.where(truth == ignored, VOID, truth))
            for metric, labeller in labellers.items():
                answer = labeller.label(sample.image, name=sample.name)
                setup.predictions.labels(metric, sample.name, answer)
                counts[metric].append(count(answer, truth, classes=background + 1, ignored=ignored))
        if not any(row[:, 2].any() for rows in counts.values() for row in rows):
            raise InputError(f"no picture with masks and labels among {len(source)}; give data that has both")
        return [self._score(metric, rows) for metric, rows in counts.items()]

    def labeller(self, model: Mapping[str, Capability], classes: Sequence[str], *, store: Store) -> Labeller:
        """How a model that embeds pictures and texts labels pictures at its best: with masks, where it has some."""
        return list(self.labellers(model, classes, store=store).values())[-1]

    def labellers(
        self, model: Mapping[str, Capability], classes: Sequence[str], *, store: Store
    ) -> dict[str, Labeller]:
        """What labels pictures, by metric, the best last."""
        image_text = image_text_of(model, self._image_text)
        promptable = promptable_of(model, self._promptable)
        assert image_text is not None
        called = [self._background_prompt] if self._background == "prompt" else []
        words = embed_classes(image_text, [*classes, *called], templates=self._templates, store=store)
        head = self._cells(image_text, words, size=self._size)
        if promptable is None:
            return {"miou_head": head}
        if self._pipeline == "cascade":
            return {"miou_cascade": self._one_after_the_other(image_text, promptable, words)}
        two_heads = TwoHeads(
            self._cells(image_text, words, size=self._two_head_size),
            promptable,
            points=self._points,
            prompts=self._prompts,
            least=self._least,
            mask_scale=self._mask_scale,
        )
        return {"miou_head": head, "miou_two_heads": two_heads}

    def _cells(self, image_text: ImageText, words: Tensor, *, size: int | None) -> Cells:
        return Cells(
            image_text,
            words=words,
            size=size,
            scale=self._scale,
            background=self._background,
            threshold=self._threshold,
        )

    def _one_after_the_other(self, image_text: ImageText, promptable: Promptable, words: Tensor) -> Cascade:
        return Cascade(
            image_text,
            promptable,
            words=words,
            scale=self._scale,
            background=self._background,
            threshold=self._threshold,
            everything=self._everything,
            crop=self._crop,
        )

    def _score(self, metric: str, rows: list[np.ndarray]) -> Score:
        return score(
            metric=metric,
            task=self._image_text,
            values=np.stack(rows),
            reduce=mean_iou,
            n=len(rows),
            against="miou_head",
        )


def annotated(sample: Sample) -> bool:
    """Whether a picture's pixels have classes."""
    return sample.pixels is not None or (sample.masks is not None and sample.labels is not None)


def label_map(sample: Sample, *, background: int) -> np.ndarray:
    """The class of each pixel of an annotated picture, int64 [H, W]; VOID where it is not judged.

    background: the number for pixels of no class. Where masks overlap (COCO), the smaller one lies over the larger.
    """
    if sample.pixels is not None:
        return np.where(sample.pixels == BACKGROUND, background, sample.pixels)
    assert sample.masks is not None
    assert sample.labels is not None
    labels = np.full(sample.masks.shape[1:], background, dtype=np.int64)
    for number in np.argsort(-sample.masks.sum(axis=(1, 2)), kind="stable"):
        labels[sample.masks[number]] = sample.labels[number]
    return labels


def count(answer: np.ndarray, truth: np.ndarray, *, classes: int, ignored: int = VOID) -> np.ndarray:
    """Pixels of each class in one picture that are right, answered, and true: int64 [classes, 3].

    ignored: pixels whose true class this is are not judged, nor are those of VOID.
    """
    judged = (truth != VOID) & (truth != ignored)
    answer, truth = answer[judged], truth[judged]
    columns = [truth[answer == truth], answer, truth]
    return np.stack([np.bincount(column, minlength=classes) for column in columns], axis=1)


def mean_iou(values: np.ndarray) -> float:
    """values: counts of pictures [n, K, 3]. IoU of all pictures' pixels, averaged over classes that truly occur."""
    right, answered, true = values.sum(0).T
    occurs = true > 0
    return float((right[occurs] / (answered + true - right)[occurs]).mean())
