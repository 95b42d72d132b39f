"""Efficiency: what the merged model costs, and what all parents cost that it stands for.

Axis letters: H x W pixels, R repeats.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from vfmerge import random
from vfmerge.capability import Capability
from vfmerge.data.source import Source
from vfmerge.errors import InputError

from . import cost
from .benchmark import Benchmark, Progress, Score, Setup, samples, score
from .features import device

_BESIDE = 3  # runs beside the repeats: to count operations, to count memory, to warm up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """How capabilities are used on a picture. suffix: of the metrics' names. frame: H, W of the picture.

    size: input side of those that take several; none is each one's own.
    """

    suffix: str
    frame: tuple[int, int]
    size: int | None


class Efficiency(Benchmark):
    """Efficiency: parameters, operations, time and memory of the merged model, and of all parents one after another.

    On one picture, every capability does what a person asks of it: the picture is embedded (not texts, which a person
    embeds once for all pictures), or encoded and one box decoded, each at the capability's own input size.

    parameters_m: millions of parameters, frozen ones too; one that several share counts once.
    gflops: billions of floating-point operations, two for a multiplication with its addition.
    latency_ms: milliseconds, resizing included: the median of the repeats, which its interval is of.
    peak_mb: millions of bytes of tensors at the worst moment, beside the weights.

    At different sizes the merged model can share nothing, and its trunk runs once for each capability. So there are
    gflops_one_pass, latency_ms_one_pass and peak_mb_one_pass, where all capabilities of a merged model look at one
    square, that of the capability which takes no other (SAM's 1024 pixels), and its trunk runs once. They are set
    against the parents' gflops, latency_ms and peak_mb, each parent at its own size: how one would do without the
    merged model. The trunk's code must be the same in parent and merged model, as it is with the adapters that come
    with vfmerge, or two implementations are compared and not the merge.

    size: side in pixels of the picture, and of the input where a capability takes several; none is a picture as large
    as the first of the data, and each capability's own default. What it shows is noise, on which no cost depends.
    repeats: how often time is taken, after once for warming up.
    """

    together = True
    controlled = False  # controls are as large as what they control
    remembered = False
    """Times are of this machine and of now."""

    def __init__(
        self, *, size: Annotated[int, Field(ge=8)] | None = None, repeats: Annotated[int, Field(ge=1)] = 5
    ) -> None:
        self._size, self._repeats = size, repeats

    def tasks(self) -> None:
        return None

    def lacks(self, source: Source) -> str:
        return ""

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        task = " + ".join(model)
        ways = self._ways(model, source)
        numbers = _told(setup.progress, total=len(ways) * (_BESIDE + self._repeats))
        scores = [_exact("parameters_m", task, parameters(model) / 1e6)]
        for way in ways:
            scores += self._measure(model, way, numbers, task=task)
        assert next(numbers, None) is None  # which also tells of the last
        return scores

    def _ways(self, model: Mapping[str, Capability], source: Source) -> list[Way]:
        """Each capability for itself, and all in one pass of the trunk, if they share it and a size."""
        frame = (self._size, self._size) if self._size else _frame(source)
        own = Way(suffix="", frame=frame, size=self._size)
        trunks = {id(capability.network.trunk) for capability in model.values()}
        fixed = {capability.fixed_size for capability in model.values()} - {None}
        common = fixed.pop() if len(fixed) == 1 else None if fixed else self._size
        if len(model) == 1 or len(trunks) > 1 or common is None:
            return [own]
        return [own, Way(suffix="_one_pass", frame=(common, common), size=common)]

    def _measure(
        self, model: Mapping[str, Capability], way: Way, numbers: Iterator[int], *, task: str
    ) -> Iterator[Score]:
        """Operations, memory and time of one way."""
        where = device(next(iter(model.values())))
        works = (functools.partial(exercise, model, noise(way.frame, number), size=way.size) for number in numbers)
        yield _exact("gflops", task, cost.flops(next(works)) / 1e9, suffix=way.suffix)
        yield _exact("peak_mb", task, cost.peak_bytes(next(works)) / 1e6, suffix=way.suffix)
        cost.seconds(next(works), where)
        times = [1e3 * cost.seconds(next(works), where) for _ in range(self._repeats)]
        yield score(
            metric=f"latency_ms{way.suffix}",
            task=task,
            values=np.array(times),
            reduce=median,
            n=self._repeats,
            against="latency_ms",
            better="lower",
        )


def exercise(model: Mapping[str, Capability], picture: np.ndarray, *, size: int | None) -> None:
    """Every capability does its job on the picture, one after another."""
    for capability in model.values():
        capability.exercise(picture, size=size)


def noise(frame: tuple[int, int], number: int) -> np.ndarray:
    """A picture of H x W pixels like no other, so that no run can use what an earlier one computed."""
    return random.generator("efficiency", *frame, number).integers(0, 256, (*frame, 3), dtype=np.uint8)


def parameters(model: Mapping[str, Capability]) -> int:
    """How many numbers the parameters of all capabilities hold, those that they share once."""
    each = itertools.chain.from_iterable(capability.network.parameters() for capability in model.values())
    return sum(parameter.numel() for parameter in {id(parameter): parameter for parameter in each}.values())


def median(values: np.ndarray) -> float:
    """The median of times [R]."""
    return float(np.median(values))


def _frame(source: Source) -> tuple[int, int]:
    """H, W of the first picture that can be used."""
    for sample in samples(source, limit=None):
        return sample.image.shape[0], sample.image.shape[1]
    raise InputError(f"no picture that can be used among {len(source)}; give `size`, or other data")


def _told(progress: Progress, *, total: int) -> Iterator[int]:
    """Numbers of runs, each told of when the next is asked for or none is left."""
    for number in range(total):
        yield number
        progress(number + 1, total)


def _exact(metric: str, task: str, value: float, *, suffix: str = "") -> Score:
    """A figure in which chance has no part."""
    return Score(
        metric=f"{metric}{suffix}",
        task=task,
        value=value,
        resampled=np.zeros(0),
        n=1,
        against=metric,
        better="lower",
    )
