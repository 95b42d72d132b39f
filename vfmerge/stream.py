"""Streams: which samples each step sees, and how they become a batch.

Everything here is a pure function of (seed, stage, stream, step): there is no iterator to save, resuming is an integer,
and any number of loading processes gives the same batches.

Axis letters: S side of the square input, N masks of an image, M of all images.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator, Iterable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vfmerge import random
from vfmerge.adapter import Batch
from vfmerge.data.source import Sample, Source
from vfmerge.data.subset import Subset
from vfmerge.errors import BadSample, RunError
from vfmerge.fitting import Fitting, fitting
from vfmerge.recipe import Stream

MASK_SIDE = 256  # masks are kept at most this large: SAM's own low resolution
_TRIES = 20
_STUCK = 300  # seconds without a batch before a loading process counts as stuck
_ROOM = 4 << 30  # bytes: as long as all that wait take no more, each loading process has two at hand; chosen here


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bad:
    """A sample that could not be used: its source's name, its number, and why."""

    data: str
    index: int
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step reads: sample numbers in order and the input side in pixels."""

    indices: tuple[int, ...]
    size: int


Loaded = tuple[Batch, tuple[Bad, ...]]
"""A batch whose images are bytes still (`Batch.to`), and the bad samples that were replaced in it."""


class Steps:
    """A stream as a list of steps: item `step` is its batch."""

    def __init__(self, source: Source, stream: Stream, *, seed: int, place: str) -> None:
        """source: the whole data set. place: names stage and stream, so that each has an order of its own.

        What a stream reads of its data set is the same in every stage: seed, data and fraction alone decide it.
        """
        chosen = random.key(seed, "fraction", stream.data)
        self.source = Subset(source, count=stream.samples(len(source)), key=chosen)
        self.stream, self.seed, self.place = stream, seed, place

    def plan(self, step: int) -> Plan:
        """Which samples the step reads: consecutive ones of an endless row of keyed shuffles; and at which size.

        Each size of a list is equally likely.
        """
        sizes, length, first = self.stream.sizes, len(self.source), step * self.stream.batch
        size = sizes[int(random.generator(self.seed, self.place, "size", step).integers(len(sizes)))]
        shuffles = {
            epoch: random.Permutation(length, random.key(self.seed, self.place, "order", epoch))
            for epoch in range(first // length, (first + self.stream.batch - 1) // length + 1)
        }
        indices = tuple(shuffles[n // length][n % length] for n in range(first, first + self.stream.batch))
        return Plan(indices=indices, size=size)

    def keys(self, step: int) -> tuple[int, ...]:
        """The step's key for each of its samples."""
        return tuple(random.key(self.seed, self.place, step, number) for number in range(self.stream.batch))

    def __getitem__(self, step: int) -> Loaded:
        planned = self.plan(step)
        return self._load(planned.indices, size=planned.size, keys=self.keys(step))

    def from_sample(self, first: int, *, size: int) -> Loaded:
        """So many samples as a step has, in the source's own order from this one on; fewer where the source ends."""
        indices = tuple(range(first, min(first + self.stream.batch, len(self.source))))
        return self._load(indices, size=size, keys=indices)

    def _load(self, indices: tuple[int, ...], *, size: int, keys: tuple[int, ...]) -> Loaded:
        bad: list[Bad] = []
        samples = [self._read(index, bad) for index in indices]
        return collate(samples, self.stream, size=size, keys=keys, classes=self.source.classes), tuple(bad)

    def _read(self, index: int, bad: list[Bad]) -> Sample:
        """The sample, or a determined other one where it is unusable."""
        for attempt in range(_TRIES):
            try:
                return self.source.read(index)
            except BadSample as error:
                bad.append(Bad(data=self.stream.data, index=self.source.number(index), reason=str(error)))
                index = random.key(self.seed, "instead of", index, attempt) % len(self.source)
        raise RunError(f"data.{self.stream.data}: {_TRIES} unusable samples in a row, the last: {bad[-1].reason}")


Batches = Generator[Loaded, None, None]
"""Batches one by one; closed, it lets its loading processes go."""


def batches(steps: Steps, *, start: int, stop: int | None, workers: int) -> Batches:
    """The batches of steps start..stop-1 (none: without end), loaded by so many processes (0: in this one)."""
    numbers = itertools.count(start) if stop is None else range(start, stop)
    return _loaded(steps, read=steps.__getitem__, numbers=numbers, size=max(steps.stream.sizes), workers=workers)


def in_order(steps: Steps, *, size: int, start: int = 0, workers: int = 0) -> Batches:
    """Every sample that a stream reads once, in the source's own order, in batches of the stream's size.

    start: how many samples are left out, a number of whole batches.
    """
    firsts = range(start, len(steps.source), steps.stream.batch)
    read = functools.partial(steps.from_sample, size=size)
    return _loaded(steps, read=read, numbers=firsts, size=size, workers=workers)


def _ahead(steps: Steps, *, size: int, workers: int) -> int:
    """How many batches each loading process has ready or at work: a second evens out those that take long to load.

    size: of the largest.
    """
    masks = steps.stream.masks * min(size, MASK_SIDE) ** 2 if steps.source.has_masks else 0
    waiting = 2 * workers * steps.stream.batch * (3 * size**2 + masks)  # bytes
    return 2 if waiting <= _ROOM else 1


def _loaded(steps: Steps, *, read: Callable[[int], Loaded], numbers: Iterable[int], size: int, workers: int) -> Batches:
    """What is read of each number, in their order."""
    if workers == 0:
        yield from map(read, numbers)
        return
    loader = DataLoader(
        _Answers(read),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=_ahead(steps, size=size, workers=workers),
        timeout=_STUCK,
        worker_init_fn=_ignore_signals,
        multiprocessing_context="spawn",  # a direct child, whose death is noticed at once
        generator=torch.Generator(),  # it draws a number that nobody needs, else from the process's own generator
    )
    try:
        for answer in loader:
            if isinstance(answer, RunError):
                raise answer
            yield answer
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        cause = str(error).splitlines()[0][:120]
        raise RunError(
            f"data.{steps.stream.data}: a loading process died or hung ({cause}); run again to go on"
        ) from error


class _Answers(Dataset[object]):
    """What a loading process reads: a fault of the data travels as it is, without that process's traceback."""

    def __init__(self, read: Callable[[int], Loaded]) -> None:
        self._read = read

    def __getitem__(self, number: int) -> Loaded | RunError:
        try:
            return self._read(number)
        except RunError as error:
            return error


def _ignore_signals(worker: int) -> None:
    """A worker ends when its parent does; the parent alone answers signals."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)


def collate(
    samples: list[Sample], stream: Stream, *, size: int, keys: tuple[int, ...], classes: tuple[str, ...] = ()
) -> Batch:
    """One batch of square inputs of `size` pixels, its images uint8. classes: what labels count."""
    fittings = [fitting(stream, key) for key in keys]
    images = np.stack([each.image(sample.image, size) for each, sample in zip(fittings, samples, strict=True)])
    batch = Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2),
        keys=keys,
        names=tuple(sample.name for sample in samples),
        classes=classes,
    )
    if samples[0].masks is None:
        known = [int(sample.labels[0]) for sample in samples if sample.labels is not None]
        return dataclasses.replace(batch, labels=torch.tensor(known) if len(known) == len(samples) else None)
    masks, owner, labels = _collate_masks(samples, fittings, side=min(size, MASK_SIDE), most=stream.masks, keys=keys)
    rough = torch.tensor([sample.rough for sample in samples])[owner] if any(each.rough for each in samples) else None
    return dataclasses.replace(batch, masks=masks, owner=owner, labels=labels, rough=rough)


def _collate_masks(
    samples: list[Sample], fittings: list[Fitting], *, side: int, most: int, keys: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """At most so many masks an image, drawn by its key: bool [M, s, s], owners [M], labels [M]."""
    masks, owner, labels = [], [], []
    for place, (sample, each, key) in enumerate(zip(samples, fittings, keys, strict=True)):
        assert sample.masks is not None
        fitted = np.empty((len(sample.masks), side, side), dtype=bool)
        for number, mask in enumerate(sample.masks):
            fitted[number] = each.mask(mask, side)
        seen = np.flatnonzero(fitted.any((1, 2)))
        chosen = random.generator(key, "masks").permutation(seen)[:most]
        masks.append(fitted[chosen])
        owner += [place] * len(chosen)
        if sample.labels is not None:
            labels.append(sample.labels[chosen])
    classes = torch.from_numpy(np.concatenate(labels)).long() if labels else None
    return torch.from_numpy(np.concatenate(masks)), torch.tensor(owner, dtype=torch.long), classes
