"""Streams: which samples each step sees, and how they become a batch.

Everything here is a pure function of (seed, stage, stream, step): there is no iterator to save, resuming is an integer,
and any number of processes or loading workers gives the same batches.

Axis letters: B images, S side of the square input, N masks of an image, M of all images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

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
_STUCK = 300  # seconds without a batch before a loading worker counts as stuck


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


class Steps(Dataset[tuple[Batch, tuple[Bad, ...]]]):
    """A stream as a list of steps: item `step` is its batch, with the bad samples that were replaced."""

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

    def __getitem__(self, step: int) -> tuple[Batch, tuple[Bad, ...]]:
        planned = self.plan(step)
        return self._load(planned.indices, size=planned.size, keys=self.keys(step))

    def in_order(self, *, size: int, start: int = 0) -> Iterator[tuple[Batch, tuple[Bad, ...]]]:
        """Every sample that the stream reads once, in the source's own order, in batches of the stream's size.

        start: how many samples are left out, a number of whole batches.
        """
        for first in range(start, len(self.source), self.stream.batch):
            indices = tuple(range(first, min(first + self.stream.batch, len(self.source))))
            yield self._load(indices, size=size, keys=indices)

    def _load(self, indices: tuple[int, ...], *, size: int, keys: tuple[int, ...]) -> tuple[Batch, tuple[Bad, ...]]:
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


def batches(steps: Steps, *, start: int, stop: int, workers: int) -> Iterator[tuple[Batch, tuple[Bad, ...]]]:
    """The batches of steps start..stop-1, loaded by so many processes (none: in this one)."""
    if workers == 0:
        yield from (steps[step] for step in range(start, stop))
        return
    loader = DataLoader(
        _Answers(steps),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        timeout=_STUCK,
        worker_init_fn=_ignore_signals,
        multiprocessing_context="spawn",  # a direct child, whose death is noticed at once
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
        name = steps.stream.data
        raise RunError(f"data.{name}: a loading process died or hung ({cause}); run again to go on") from error


class _Answers(Dataset[object]):
    """Steps as a loading process gives them: a fault of the data travels as it is, without that process's traceback."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __getitem__(self, step: int) -> tuple[Batch, tuple[Bad, ...]] | RunError:
        try:
            return self._steps[step]
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
    """One batch of square inputs of `size` pixels. classes: what labels count."""
    fittings = [fitting(stream, key) for key in keys]
    fitted = [each.image(sample.image, size) for each, sample in zip(fittings, samples, strict=True)]
    images, sizes = zip(*fitted, strict=True)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    batch = Batch(
        images=pixels,
        sizes=torch.tensor(sizes),
        keys=keys,
        names=tuple(sample.name for sample in samples),
        classes=classes,
        texts=tuple(sample.text or "" for sample in samples) if any(sample.text for sample in samples) else None,
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
