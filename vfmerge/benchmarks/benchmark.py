"""The interface between vfmerge and a benchmark: capabilities and a data set in, scores out.

A benchmark sees capabilities and nothing else, so a parent and a merged model are measured by the same code. What it
measures depends only on which of its roles are filled: a CLIP alone has no masks to prompt, a merged model has.

This file imports no torch, and a benchmark's module should not either until it measures.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, TypeVar

import numpy as np

from vfmerge import random
from vfmerge.capability import Capability, ImageText, Promptable, PromptableRecognition
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError, one_line
from vfmerge.store import Store

from . import bootstrap
from .predictions import Predictions

Progress = Callable[[int, int], None]
"""Told how many pictures are done, and of how many."""

Unusable = Callable[[Source, int, str, int], None]
"""Told of a picture that is left out: its data set, its number there, what is wrong with it, and of how many it is."""

_Item = TypeVar("_Item")
_BAD = 0.01  # share of unusable pictures that a figure may leave out


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""


def ignore(source: Source, index: int, reason: str, among: int) -> None:
    """A picture that nobody misses."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """One metric of one model on one data set. Make it with `score`.

    metric: its name, such as top1. task: the parent whose skill it is.
    value: the metric over all pictures. resampled: float [R], the metric over R bootstrap samples of the pictures, the
    same samples for every model; nan where one of them has no meaning. Empty where chance has no part in the metric.
    n: how many things were judged (pictures or masks).
    against: the parent's metric that this one is compared with; none is the same.
    better: whether more or less of it is better.
    """

    metric: str
    task: str
    value: float
    resampled: np.ndarray
    n: int
    against: str | None = None
    better: Literal["higher", "lower"] = "higher"


def score(
    *,
    metric: str,
    task: str,
    values: np.ndarray,
    reduce: Callable[[np.ndarray], float],
    n: int,
    against: str | None = None,
    better: Literal["higher", "lower"] = "higher",
    times: int = 1000,
) -> Score:
    """The score that pictures add up to, and what it would be on resampled pictures.

    values: [pictures, ...], what each picture adds to the metric; `reduce` makes the metric of any selection of rows.
    times: how many bootstrap samples; fewer where `reduce` is slow. The rest is as in `Score`.
    """
    return Score(
        metric=metric,
        task=task,
        value=reduce(values),
        resampled=bootstrap.resample(values, reduce, times=times),
        n=n,
        against=against,
        better=better,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What a measurement is given beside a model and a data set. More may be added, with defaults.

    progress: told of each picture. unusable: of each that is left out, since no figure may leave one out in silence.
    train: a data set to learn from, for benchmarks that learn.
    predictions: where the model's answers are written, if they are wanted. store: what is remembered between runs.
    """

    progress: Progress = quiet
    unusable: Unusable = ignore
    train: Source | None = None
    predictions: Predictions = dataclasses.field(default_factory=Predictions)
    store: Store = dataclasses.field(default_factory=Store)


class Benchmark(abc.ABC):
    """One protocol. Its options are the keyword-only, annotated parameters of its `__init__`, checked by the recipe."""

    revision: int = 1
    """Raised when the protocol changes, so that scores remembered from before are not used."""

    learns: bool = False
    """Whether it learns from a second data set, `train`."""

    together: bool = False
    """Whether all parents are measured at once, as what a person would have to run without the merged model."""

    remembered: bool = True
    """Whether scores may be remembered: not where they are of a machine and a moment."""

    further: tuple[str, ...] = ()
    """Further tasks of a merged model that its option `beside` names: they must be there."""

    controlled: bool = True
    """Whether controls are measured by it too: not where that would cost much and say little."""

    @abc.abstractmethod
    def tasks(self) -> dict[str, str] | None:
        """Which parent fills each role, by the name of the capability: `{"image_text": "clip"}`; none: any parent."""

    @abc.abstractmethod
    def lacks(self, source: Source) -> str:
        """What a data set must have and this one has not, in a few words; empty if it fits. Reads no picture."""

    def digest(self) -> str:
        """A hash of the files that its options name, so that remembered scores are of them; empty without files."""
        return ""

    @abc.abstractmethod
    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        """The scores of a model, or none where it fills no role.

        model: capabilities by task, one of a parent alone or all of a merged model. Runs without gradients.
        Raises InputError if a task has not the capability its role asks for, or no picture can be used.
        """

    def cascade(self) -> Benchmark | None:
        """The same measurement of what all parents do one after the other; none where there is no such thing."""
        return None

    def beside(
        self, parents: Mapping[str, Capability], merged: Mapping[str, Capability]
    ) -> dict[str, Mapping[str, Capability]]:
        """Further models that belong into the same table, by name, made of what parents and merged model can do.

        parents: those that are there, by task. What is made depends on these, on the name and on the options alone.
        """
        return {}


def image_text_of(model: Mapping[str, Capability], task: str) -> ImageText | None:
    """What embeds pictures and texts, or none. Raises InputError if the task does something else."""
    found = model.get(task)
    if found is None or isinstance(found, ImageText):
        return found
    raise _miscast(ImageText.name, task, found)


def promptable_of(model: Mapping[str, Capability], task: str) -> Promptable | None:
    """What answers prompts, or none. Raises InputError if the task does something else."""
    found = model.get(task)
    if found is None or isinstance(found, Promptable):
        return found
    raise _miscast(Promptable.name, task, found)


def recogniser_of(model: Mapping[str, Capability], task: str) -> PromptableRecognition | None:
    """What answers prompts with names, or none. Raises InputError if the task does something else."""
    found = model.get(task)
    if found is None or isinstance(found, PromptableRecognition):
        return found
    raise _miscast(PromptableRecognition.name, task, found)


def _miscast(wanted: str, task: str, found: Capability) -> InputError:
    return InputError(one_line(f"{wanted}: {task}: this parent is {found.name}; name one that is {wanted}"))


def samples(source: Source, *, limit: int | None, setup: Setup = Setup()) -> Iterator[Sample]:
    """The pictures to measure on: all, or `limit` of them drawn once and for all, so that sorted folders are fair.

    setup: is told of each picture, and of one that cannot be read, which is left out. Raises InputError when more than
    one picture and more than 1 % are.
    """
    chosen = _choose(len(source), limit)
    bad = 0
    for done, index in enumerate(chosen, start=1):
        try:
            sample = source.read(index)
        except BadSample as error:
            bad += 1
            setup.unusable(source, index, str(error), len(chosen))
            if bad > max(1, _BAD * len(chosen)):
                raise InputError(
                    one_line(f"more than 1 % of the pictures cannot be used; the last: {error}")
                ) from error
        else:
            yield sample
        setup.progress(done, len(chosen))


def _choose(length: int, limit: int | None) -> list[int]:
    if limit is None or limit >= length:
        return list(range(length))
    shuffled = random.Permutation(length, random.key("evaluation"))
    return sorted(shuffled[place] for place in range(limit))


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """So many at a time; the last may be fewer."""
    rest = iter(items)
    while some := list(itertools.islice(rest, size)):
        yield some


def mean(values: np.ndarray) -> float:
    """The mean of one number a picture [n]."""
    return float(values.mean())


def ratio(values: np.ndarray) -> float:
    """Sum over count, for pictures with several judged things each: values [n, 2] are (sum, count)."""
    total, count = values.sum(0)
    return float(total / count)
