"""Zero-shot semantic segmentation: every pixel gets the class whose text is nearest (SAM-CLIP, arXiv 2310.15308).

Axis letters: B pictures, H x W pixels, h x w cells, K classes with the background if it is one, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, ImageText, Promptable
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError
from vfmerge.store import Store

from .benchmark import Benchmark, Score, Setup, image_text_of, promptable_of, samples, score
from .cells import Background, Cells
from .templates import Templates, embed_classes
from .two_heads import TwoHeads


class ZeroShotSegmentation(Benchmark):
    """Zero-shot semantic segmentation: miou_head, by text-aligned cells alone; miou_two_heads, where they prompt masks.

    Both are the mean over classes of intersection over union of all pictures' pixels together, over the classes that
    occur in the ground truth, which is the same set for every model. A parent that has no masks to prompt is measured
    by miou_head, and a merged model's miou_two_heads is compared with that.

    image_text, promptable: the parents that give the cells and the masks.
    size: input side for cells alone (paper: 448), two_head_size: for cells that prompt masks (paper: 1024); none is the
    model's own default. templates: the 80 of OpenAI (paper), or one plain sentence. limit: at most so many pictures.
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
    ) -> None:
        self._image_text, self._promptable = image_text, promptable
        self._size, self._two_head_size = size, two_head_size
        self._templates, self._limit, self._scale = templates, limit, scale
        self._background, self._background_prompt, self._threshold = background, background_prompt, threshold
        self._points, self._prompts, self._cells, self._mask_scale = points, prompts, cells, mask_scale

    def tasks(self) -> dict[str, str]:
        return {ImageText.name: self._image_text, Promptable.name: self._promptable}

    def lacks(self, source: Source) -> str:
        missing = [] if source.has_masks else ["masks"]
        return " and ".join(missing if source.classes else [*missing, "class names"])

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        image_text = image_text_of(model, self._image_text)
        promptable = promptable_of(model, self._promptable)
        if image_text is None:
            return []
        head, two_heads = self.heads(image_text, promptable, source.classes, store=setup.store)
        ignored = len(source.classes) if self._background == "ignore" else None
        counts: dict[str, list[np.ndarray]] = {"miou_head": []}
        if two_heads:
            counts["miou_two_heads"] = []
        for sample in samples(source, limit=self._limit, progress=setup.progress):
            if sample.masks is None or sample.labels is None:
                continue
            truth = label_map(sample, background=len(source.classes))
            answers = {"miou_head": head.label(sample.image)}
            if two_heads:
                answers["miou_two_heads"] = two_heads.label(sample.image, name=sample.name)
            for metric, answer in answers.items():
                counts[metric].append(count(answer, truth, classes=len(source.classes) + 1, ignored=ignored))
        if not any(rows[:, 2].any() for rows in counts["miou_head"]):
            raise InputError(f"no picture with masks and labels among {len(source)}; give data that has both")
        return [self._score(metric, rows) for metric, rows in counts.items()]

    def heads(
        self, image_text: ImageText, promptable: Promptable | None, classes: Sequence[str], *, store: Store
    ) -> tuple[Cells, TwoHeads | None]:
        """What labels pictures: by cells alone, and by cells that prompt masks where there is something to prompt."""
        called = [self._background_prompt] if self._background == "prompt" else []
        words = embed_classes(image_text, [*classes, *called], templates=self._templates, store=store)
        cells, coarse = (
            Cells(
                image_text,
                words=words,
                size=size,
                scale=self._scale,
                background=self._background,
                threshold=self._threshold,
            )
            for size in (self._size, self._two_head_size)
        )
        if promptable is None:
            return cells, None
        decoded = TwoHeads(
            coarse,
            promptable,
            points=self._points,
            prompts=self._prompts,
            least=self._cells,
            mask_scale=self._mask_scale,
        )
        return cells, decoded

    def _score(self, metric: str, rows: list[np.ndarray]) -> Score:
        return score(
            metric=metric,
            task=self._image_text,
            values=np.stack(rows),
            reduce=mean_iou,
            n=len(rows),
            against="miou_head",
        )


def label_map(sample: Sample, *, background: int) -> np.ndarray:
    """The class of each pixel, int64 [H, W]; where masks overlap (COCO), the smaller one lies over the larger."""
    assert sample.masks is not None
    assert sample.labels is not None
    labels = np.full(sample.masks.shape[1:], background, dtype=np.int64)
    for number in np.argsort(-sample.masks.sum(axis=(1, 2)), kind="stable"):
        labels[sample.masks[number]] = sample.labels[number]
    return labels


def count(answer: np.ndarray, truth: np.ndarray, *, classes: int, ignored: int | None = None) -> np.ndarray:
    """Pixels of each class in one picture that are right, answered, and true: int64 [classes, 3].

    ignored: pixels whose true class this is are not judged.
    """
    judged = np.ones(truth.shape, dtype=bool) if ignored is None else truth != ignored
    answer, truth = answer[judged], truth[judged]
    columns = [truth[answer == truth], answer, truth]
    return np.stack([np.bincount(column, minlength=classes) for column in columns], axis=1)


def mean_iou(values: np.ndarray) -> float:
    """values: counts of pictures [n, K, 3]. IoU of all pictures' pixels, averaged over classes that truly occur."""
    right, answered, true = values.sum(0).T
    occurs = true > 0
    return float((right[occurs] / (answered + true - right)[occurs]).mean())
