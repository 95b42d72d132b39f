"""Frozen features: what trunks see in a data set's pictures, kept in a file while probes learn from them.

A file, not memory, so that a data set of any size is probed in the same memory. It is read, not mapped, because mapped
pages count as a process's own.

Axis letters: N rows, B pictures, S side of the square input in pixels, C channels.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from vfmerge.capability import Capability
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError, one_line
from vfmerge.pixels import stretch
from vfmerge.problem import suggestion

from .benchmark import Benchmark, Setup, batched, samples

if TYPE_CHECKING:
    import torch

    from vfmerge.adapter import Features

_BYTES, _ROWS = 4 * 2**20, 8192  # in memory at a time


class Table:
    """Equal arrays, one a row, in a temporary file that nothing of remains. Rows are appended, then read."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.shape: tuple[int, ...] = ()
        """Of one row; known when there is one."""
        self._rows = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: np.ndarray) -> None:
        """Add rows [n, ...]. Raises InputError if the disk is full."""
        assert self._rows == 0 or rows.shape[1:] == self.shape
        self.shape = rows.shape[1:]
        try:
            self._file.write(rows.astype(self.dtype).tobytes())
            self._file.flush()
        except OSError as error:
            text = f"{tempfile.gettempdir()}: {error.strerror}, so no room for features; let TMPDIR name a larger disk"
            raise InputError(one_line(text)) from error
        self._rows += len(rows)

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """The rows of these numbers, [n, ...]."""
        return np.concatenate([self._read(number, 1) for number in numbers])

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows in order, some at a time, each time with the number of the first."""
        size = min(max(1, _BYTES // self._bytes), _ROWS)
        for first in range(0, self._rows, size):
            yield first, self._read(first, min(size, self._rows - first))

    @property
    def _bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def _read(self, first: int, count: int) -> np.ndarray:
        self._file.seek(first * self._bytes)
        return np.frombuffer(self._file.read(count * self._bytes), dtype=self.dtype).reshape(count, *self.shape)


def spread(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [C] of each channel, the first axis of a row, over all else; 1 for a constant one."""
    total, square, count = np.zeros(table.shape[0]), np.zeros(table.shape[0]), 0
    for _, rows in table.chunks():
        values = np.moveaxis(rows, 1, 0).reshape(table.shape[0], -1).astype(np.float64)
        total, square, count = total + values.sum(1), square + (values**2).sum(1), count + values.shape[1]
    mean = total / count
    variance = np.maximum(square / count - mean**2, 0)
    constant = variance <= 1e-10 * (1 + mean**2)
    return mean.astype(np.float32), np.where(constant, 1, np.sqrt(variance)).astype(np.float32)


class Work:
    """Progress over several kinds of work, told as one count."""

    def __init__(self, setup: Setup, *, total: int) -> None:
        self._setup, self._total, self._done = setup, total, 0

    @property
    def setup(self) -> Setup:
        """The same setup, to which a picture is one piece of the work."""
        return dataclasses.replace(self._setup, progress=lambda done, total: self.advance())

    def advance(self, count: int = 1) -> None:
        """So much more is done; none says only that the work goes on, so that it can be stopped."""
        self._done += count
        self._setup.progress(self._done, self._total)


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """How pictures are shown to a trunk: whole, stretched to a square of `size` pixels, so many at a time."""

    size: int
    batch: int

    def look(
        self, capability: Capability, source: Source, *, limit: int | None, work: Work
    ) -> Iterator[tuple[list[Sample], Features]]:
        """A source's pictures with what the trunk sees in them, `batch` at a time."""
        import torch

        place = device(capability)
        for some in batched(samples(source, limit=limit, setup=work.setup), self.batch):
            with torch.no_grad():
                features = capability.features(stretch([sample.image for sample in some], self.size).to(place))
            yield some, features


def device(capability: Capability) -> torch.device:
    """Where a model is."""
    import torch

    first = next(capability.network.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def trunks(
    model: Mapping[str, Capability], parents: Collection[str] | None
) -> list[tuple[Capability, tuple[str, ...]]]:
    """A model's different trunks, each by one capability, with the tasks that share it. Learnt features count as one.

    parents: the tasks to probe; none is all. Raises InputError for one that a model of several has not.
    """
    if len(model) > 1 and (strangers := set(parents or ()) - model.keys()):
        named = min(strangers)
        raise InputError(one_line(f"parents: no parent is called {named!r}; {suggestion(named, model)}"))
    found: dict[int, tuple[Capability, tuple[str, ...]]] = {}
    for task, capability in model.items():
        if parents is None or task in parents:
            first, tasks = found.get(id(capability.seen_by), (capability, ()))
            found[id(capability.seen_by)] = first, (*tasks, task)
    return list(found.values())


def train_of(benchmark: Benchmark, source: Source, setup: Setup) -> Source:
    """The data set to learn from. Raises InputError if it is missing, or not of the same classes as the other."""
    train = setup.train
    if train is None:
        raise InputError("train: missing; a probe learns from a second data set, name one")
    if lack := benchmark.lacks(train):
        raise InputError(f"train: this data set has no {lack}; give one that has")
    if train.classes != source.classes:
        text = f"train: has {len(train.classes)} classes, {', '.join(train.classes[:3])} ..., and data has "
        text += f"{len(source.classes)}, {', '.join(source.classes[:3])} ...; give two of the same classes in one order"
        raise InputError(one_line(text))
    return train


def length(source: Source, limit: int | None) -> int:
    """How many pictures of a source are looked at."""
    return len(source) if limit is None else min(limit, len(source))
