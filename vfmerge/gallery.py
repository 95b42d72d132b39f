"""The report's gallery: the same held-out pictures as every parent, control and the merged model see them.

Pictures are ranked by how well the merged model labels them; the best, the middle and the worst are shown.

Axis letters: H x W pixels of a picture.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vfmerge import commit, parts, picture, store
from vfmerge.benchmarks.benchmark import promptable_of, samples
from vfmerge.benchmarks.cells import Labeller
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation, annotated, count, label_map, mean_iou
from vfmerge.capability import Promptable
from vfmerge.data.source import VOID, Sample, Source
from vfmerge.errors import InputError
from vfmerge.picture import Panel
from vfmerge.recipe import Recipe
from vfmerge.subject import Subject

FOLDER, INDEX = "gallery", "gallery.json"
RANKS = ("best", "median", "worst")

_LOOKED_AT = 32  # pictures that are ranked; each is encoded once more for it
_OF_EACH = 2  # pictures of each rank
_TITLES = {  # of controls that are worth a column
    "pipeline": ("both parents", "two encoders, same pipeline"),
    "cascade": ("cascade", "masks of everything, crops named"),
    "probe": ("head probing", "the trunk stays the base's"),
    "naive": ("without rehearsal", "naive distillation"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """How one model's view of a picture is made. labeller: none for a segmenter, which knows no names."""

    key: str
    title: str
    subtitle: str
    labeller: Labeller | None = None
    segmenter: Promptable | None = None


def write(run: Path, plan: Recipe, parents: Subject, models: Sequence[Subject], sources: Mapping[str, Source]) -> None:
    """Write `gallery/` for the recipe's first zero-shot segmentation; nothing if it has none.

    models: the merged model first, then controls.
    """
    made = parts.build_benchmarks(plan)
    for name, evaluation in plan.evaluate.items():
        benchmark = made[name]
        if isinstance(benchmark, ZeroShotSegmentation):
            source = sources[evaluation.data]
            columns = list(_columns(benchmark, parents, models, source.classes))
            commit.commit(run / FOLDER, functools.partial(_fill, source=source, columns=columns))
            return


def _columns(
    benchmark: ZeroShotSegmentation, parents: Subject, models: Sequence[Subject], classes: Sequence[str]
) -> Iterator[Column]:
    """Parents, controls in the order of `_TITLES`, and the merged model last, which pictures are ranked by."""
    remembered = store.default()
    for role, task in benchmark.tasks().items():
        if task in parents.capabilities and role == Promptable.name:
            segmenter = promptable_of(parents.capabilities, task)
            yield Column(key=task, title=f"parent {task}", subtitle="given boxes; knows no names", segmenter=segmenter)
        elif task in parents.capabilities:
            alone = benchmark.labeller({task: parents.capabilities[task]}, classes, store=remembered)
            yield Column(key=task, title=f"parent {task}", subtitle="its cells; knows no outlines", labeller=alone)
    known = {model.control: model for model in models[1:]}
    for control, (title, subtitle) in _TITLES.items():
        if control in known:
            model = known[control]
            used = benchmark.cascade() if model.way == "cascade" else benchmark
            assert isinstance(used, ZeroShotSegmentation)
            labeller = used.labeller(model.capabilities, classes, store=remembered)
            yield Column(key=control, title=title, subtitle=subtitle, labeller=labeller)
    merged = benchmark.labeller(models[0].capabilities, classes, store=remembered)
    yield Column(key="merged", title="merged", subtitle="one encoder, both heads", labeller=merged)


def _fill(folder: Path, *, source: Source, columns: Sequence[Column]) -> None:
    ranks = _rank(source, columns[-1])
    shown = {sample.name: sample for sample in _some(source) if sample.name in ranks}
    rows = []
    for number, (name, rank) in enumerate(ranks.items()):
        cells = [
            _save(folder, f"{number}-{key}", panel, score) for key, panel, score in _views(shown[name], source, columns)
        ]
        score = cells[-1]["score"]
        rows.append({"name": name, "rank": rank, "score": score, "cells": cells})
    heads = [("picture", "picture", "held out"), ("truth", "ground truth", "what is there")]
    heads += [(column.key, column.title, column.subtitle) for column in columns]
    index = {
        "classes": [
            {"name": name, "colour": colour} for colour, name in picture.legend(list(shown.values()), source.classes)
        ],
        "columns": [{"key": key, "title": title, "subtitle": subtitle} for key, title, subtitle in heads],
        "rows": rows,
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def _some(source: Source) -> Iterator[Sample]:
    """The pictures that are looked at: those with something in them."""
    for sample in samples(source, limit=_LOOKED_AT):
        if annotated(sample):
            truth = label_map(sample, background=len(source.classes))
            if ((truth != VOID) & (truth < len(source.classes))).any():
                yield sample


def _rank(source: Source, column: Column) -> dict[str, str]:
    """Names of the pictures to show, best first, and which of RANKS each is."""
    scores = [(_score(sample, _label(sample, column), source), sample.name) for sample in _some(source)]
    if not scores:
        raise InputError("no gallery of pictures without a class; give data.NAME of the evaluation some that have")
    names = [name for _, name in sorted(scores, reverse=True)]
    middle = max(len(names) // 2 - _OF_EACH // 2, 0)
    chosen = {
        "best": names[:_OF_EACH],
        "median": names[middle : middle + _OF_EACH],
        "worst": names[-_OF_EACH:],
    }
    return {name: rank for rank in RANKS for name in chosen[rank]}  # of few pictures, one may be the best and the worst


def _views(sample: Sample, source: Source, columns: Sequence[Column]) -> Iterator[tuple[str, Panel, float | None]]:
    """The panels of one picture: key, panel, and how well it is labelled where that can be said."""
    truth = label_map(sample, background=len(source.classes))
    yield "picture", Panel(picture=sample.image, regions=np.full(sample.image.shape[:2], -1)), None
    yield "truth", picture.labels(sample.image, truth, source.classes), None
    for column in columns:
        if column.segmenter is not None:
            yield column.key, picture.masks(sample, column.segmenter), None
        else:
            answer = _label(sample, column)
            yield column.key, picture.labels(sample.image, answer, source.classes), _score(sample, answer, source)


def _label(sample: Sample, column: Column) -> np.ndarray:
    assert column.labeller is not None
    return column.labeller.label(sample.image, name=sample.name)


def _score(sample: Sample, answer: np.ndarray, source: Source) -> float:
    """Mean IoU over the classes and the background that are in the picture."""
    classes = len(source.classes)
    return mean_iou(count(answer, label_map(sample, background=classes), classes=classes + 1)[None])


def _save(folder: Path, name: str, panel: Panel, score: float | None) -> dict[str, Any]:
    file = f"{name}.png"
    picture.render(panel).save(folder / file, format="PNG", optimize=True)
    return {"file": file, "alt": picture.describe(panel), "score": score}
