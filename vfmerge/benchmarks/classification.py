"""Zero-shot classification: the class whose text is nearest to the picture (CLIP, arXiv 2103.00020, section 3.1).

Axis letters: B pictures, K classes, D embedding width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, ImageText
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

from .benchmark import Benchmark, Score, Setup, image_text_of, mean, samples, score
from .templates import Templates, embed_classes

_FEW = 10  # with fewer classes top-5 says little


class ZeroShotClassification(Benchmark):
    """Zero-shot classification: top1, and top5 where there are ten classes or more.

    image_text: the parent that embeds pictures and texts. size: its input side in pixels; none is its own default.
    templates: the 80 of OpenAI, or one plain sentence. limit: at most so many pictures. batch: pictures at once.
    """

    def __init__(
        self,
        *,
        image_text: str = "clip",
        size: Annotated[int, Field(ge=8)] | None = None,
        templates: Templates = "openai",
        limit: Annotated[int, Field(ge=1)] | None = None,
        batch: Annotated[int, Field(ge=1)] = 64,
    ) -> None:
        self._task, self._size, self._templates, self._limit, self._batch = image_text, size, templates, limit, batch

    def tasks(self) -> dict[str, str]:
        return {ImageText.name: self._task}

    def lacks(self, source: Source) -> str:
        return "" if source.classes else "class names"

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        image_text = image_text_of(model, self._task)
        if image_text is None:
            return []
        words = embed_classes(image_text, source.classes, templates=self._templates, store=setup.store)
        ranks: list[int] = []
        for some in _batches(samples(source, limit=self._limit, progress=setup.progress), self._batch):
            truth = [int(sample.labels[0]) for sample in some if sample.labels is not None]
            pictures = image_text.encode_image([sample.image for sample in some], size=self._size)
            similarity = pictures @ words.to(pictures.device).T  # [B, K]
            order = similarity.argsort(dim=1, descending=True, stable=True).tolist()
            ranks += [row.index(label) for row, label in zip(order, truth, strict=True)]
        if not ranks:
            raise InputError(f"no picture with a label among {len(source)}; give data that has labels")
        depths = (1, 5) if len(source.classes) >= _FEW else (1,)
        return [self._score(np.array(ranks), depth) for depth in depths]

    def _score(self, ranks: np.ndarray, depth: int) -> Score:
        hits = (ranks < depth).astype(float)
        return score(metric=f"top{depth}", task=self._task, values=hits, reduce=mean, n=len(hits))


def _batches(pictures: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    """Pictures that have a label, so many at a time; the first label of a picture is its class."""
    labelled = (sample for sample in pictures if sample.labels is not None and len(sample.labels))
    while some := list(itertools.islice(labelled, size)):
        yield some
