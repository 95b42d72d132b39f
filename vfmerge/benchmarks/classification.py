"""Zero-shot classification: the class whose text is nearest to the picture (CLIP, arXiv 2103.00020, section 3.1).

Axis letters: B pictures, K classes, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, ImageText
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError, one_line
from vfmerge.templates import Templates, embed_classes

from .benchmark import Benchmark, Score, Setup, batched, image_text_of, mean, samples, score
from .predictions import Predictions

_FEW = 10  # with fewer classes top-5 says little


class ZeroShotClassification(Benchmark):
    """Zero-shot classification: top1, and top5 where there are ten classes or more.

    Where the data has groups, also top1 of each group, and of the worst: `top1 group=NAME`, `top1 worst_group` (Sagawa
    et al., arXiv 1911.08731). A picture of no group counts in neither.

    image_text: the parent that embeds pictures and texts. size: its input side in pixels; none is its own default.
    templates: the 80 of OpenAI, one plain sentence, or a list of sentences with {} where the name goes.
    limit: at most so many pictures. batch: pictures at once.
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
        setup.predictions.whole("classes.json", list(source.classes))
        ranks: list[int] = []
        groups: list[str | None] = []
        told = samples(source, limit=self._limit, setup=setup)
        labelled = (sample for sample in told if sample.labels is not None and len(sample.labels))
        for some in batched(labelled, self._batch):
            pictures = image_text.encode_image([sample.image for sample in some], size=self._size)
            similarity = pictures @ words.to(pictures.device).T  # [B, K]
            order = similarity.argsort(dim=1, descending=True, stable=True).tolist()
            for sample, ranked in zip(some, order, strict=True):
                label = _label(sample)
                ranks.append(ranked.index(label))
                groups.append(sample.group)
                _write(setup.predictions, sample, label=label, ranked=ranked)
        if not ranks:
            raise InputError(f"no picture with a label among {len(source)}; give data that has labels")
        overall = tops(np.array(ranks), classes=len(source.classes), task=self._task)
        return overall + self._by_group(np.equal(ranks, 0).astype(float), groups, source.groups)

    def _by_group(self, hits: np.ndarray, groups: Sequence[str | None], names: Sequence[str]) -> list[Score]:
        """The worst group's accuracy, then each group's, of the groups that have a picture. hits: [pictures]."""
        numbers = np.array([names.index(group) if group in names else -1 for group in groups])
        both = np.stack([hits, numbers], axis=1)[numbers >= 0]
        if not len(both):
            return []
        scores = [score(metric="top1 worst_group", task=self._task, values=both, reduce=worst, n=len(both))]
        for number in np.unique(both[:, 1]).astype(int):
            metric, of = f"top1 group={one_line(names[number])}", hits[numbers == number]
            scores.append(score(metric=metric, task=self._task, values=of, reduce=mean, n=len(of)))
        return scores


def tops(ranks: np.ndarray, *, classes: int, task: str) -> list[Score]:
    """top1, and top5 where there are ten classes or more, of the place [pictures], from 0, of each right class."""
    scores = []
    for depth in (1, 5) if classes >= _FEW else (1,):
        hits = (ranks < depth).astype(float)
        scores.append(score(metric=f"top{depth}", task=task, values=hits, reduce=mean, n=len(hits)))
    return scores


def worst(values: np.ndarray) -> float:
    """The least mean of any group: values [n, 2] are a number and the group that it is of."""
    group = values[:, 1].astype(int)
    count = np.bincount(group)
    total = np.bincount(group, weights=values[:, 0])
    return float((total[count > 0] / count[count > 0]).min())


def _label(sample: Sample) -> int:
    """The first label of a picture is its class."""
    assert sample.labels is not None
    return int(sample.labels[0])


def _write(predictions: Predictions, sample: Sample, *, label: int, ranked: Sequence[int]) -> None:
    """A line for a picture: its name, its class's number, and the five numbers thought likeliest, likeliest first."""
    group = {} if sample.group is None else {"group": sample.group}
    predictions.line("predictions.jsonl", {"name": sample.name, "label": label, "ranked": ranked[:5], **group})
