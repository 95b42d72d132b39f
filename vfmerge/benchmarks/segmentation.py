"""Zero-shot semantic segmentation: every pixel gets the class whose text is nearest (SAM-CLIP, arXiv 2310.15308, 4.2, 4.4).

Axis letters: B pictures, H x W pixels, h x w cells, K classes with the background if it is one, D embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, ImageText, Promptable
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

from .benchmark import Benchmark, Progress, Score, quiet, role, samples
from .templates import Templates, embed_classes

if TYPE_CHECKING:
    from torch import Tensor

    from .two_heads import TwoHeads

Background = Literal["prompt", "ignore", "threshold"]


class ZeroShotSegmentation(Benchmark):
    """miou_head, from text-aligned cells alone, and miou_two_heads, where the same cells prompt the mask decoder.

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
    prompts: one prompt for each class (paper), or for each connected component of a class's cells (chosen here), since a
    picture may hold two things of one class and SAM's mask is of one thing.
    cells: a component of fewer cells is no thing (chosen here: 1).
    mask_scale: a cell's probability of 1 becomes this mask logit, of 0 its negative, of 1/2 zero (chosen here: SAM's own
    mask logits are within about 10); at 0 no mask prompt is given.
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

    def measure(
        self, model: Mapping[str, Capability], source: Source, *, progress: Progress = quiet
    ) -> list[Score]:
        image_text = role(model, self._image_text, ImageText)
        promptable = role(model, self._promptable, Promptable)
        if image_text is None:
            return []
        labellers = [self.head(image_text, source.classes)]
        if promptable is not None:
            labellers.append(self.two_heads(image_text, promptable, source.classes))
        ignored = len(source.classes) if self._background == "ignore" else None
        counts: list[list[np.ndarray]] = [[] for _ in labellers]
        for sample in self._annotated(source, progress):
            truth = label_map(sample, background=len(source.classes))
            for labeller, rows in zip(labellers, counts, strict=True):
                rows.append(count(labeller(sample), truth, classes=len(source.classes) + 1, ignored=ignored))
        if not counts[0]:
            raise InputError(f"no picture with masks and labels among {len(source)}; give data that has both")
        names = ("miou_head", "miou_two_heads")[: len(labellers)]
        return [self._score(name, rows) for name, rows in zip(names, counts, strict=True)]

    def head(self, image_text: ImageText, classes: Sequence[str]) -> Head:
        """Labels pictures from cells alone."""
        return Head(self.cell_probabilities(image_text, classes, size=self._size), background=self._empty(classes))
