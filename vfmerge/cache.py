"""Frozen features and targets of every sample, once on disk instead of once a step.

While the trunk is frozen and pictures are not augmented, neither a trunk's features nor a teacher's target change: a
head-probing stage then costs only its head. Where the trunk learns, or its features would take more room than they are
worth, the targets alone are kept. Arrays are plain `.npy` files of half precision, written from the first sample to the
last and read by memory map. What a lost write or a bad sector leaves of one is never learnt from: it is filled again.

Axis letters: B samples of a batch.
"""

from __future__ import annotations

import json
import math
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfmerge import commit
from vfmerge.adapter import Batch, Features
from vfmerge.column import TYPE, Column, Poll, intact
from vfmerge.errors import RunError
from vfmerge.model import Network

_COMPLETE = "complete.json"  # written last: a cache without it is no cache
_PROGRESS = "progress.json"  # how much of an unfinished one is on the disk for certain


def place(out: Path, *, stage: str, number: int, size: int) -> Path:
    """The folder in a run's folder where a stage's stream of that number is cached at one size."""
    return out / "cache" / f"{stage}-{number}-{size}"


def holds(folder: Path, wanted: Mapping[str, Any], *, poll: Poll) -> bool:
    """Whether the folder is a whole cache of just this, as it was written: all of it is read, once a start of a run.

    wanted: what features and targets depend on, as JSON.
    """
    return bool(_read(folder / _COMPLETE, of=wanted, poll=poll))


def bytes_of(features: Features | None, targets: Mapping[str, Any]) -> int:
    """What a sample takes, from what networks gave for a batch: tensors on any device, the meta device too."""
    rows, _ = _name(features, targets)
    return sum(TYPE.itemsize * math.prod(tensor.shape[1:]) for tensor in rows.values())


class Filler:
    """Computes a cache batch by batch, the samples in their order. done: how many of them it has.

    A cache of the same thing that was begun before goes on after the samples that were kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        length: int,
        trunk: torch.nn.Module | None,
        teachers: Mapping[str, Network],
        of: Mapping[str, Any],
        poll: Poll,
    ) -> None:
        """length: of the data, in samples. trunk: whose features are kept; none where targets alone are.

        teachers: whose targets are kept, by task. of: what features and targets depend on, as JSON. poll: while what
        was begun before is looked through.
        """
        self._folder, self._length, self._trunk, self._teachers = folder, length, trunk, teachers
        self._of = dict(of)
        self._columns: dict[str, Column] = {}
        self._layout: dict[str, Any] = {}
        self._notes: list[Mapping[str, Any]] = []
        self.done = 0
        if not self._go_on(poll):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    @torch.no_grad()
    def add(self, batch: Batch, *, notes: Sequence[Mapping[str, Any]]) -> None:
        """The next samples; notes are kept beside them. Raises RunError if a value does not fit half precision."""
        features = None if self._trunk is None else self._trunk(batch.images)
        targets = {task: teacher(batch) for task, teacher in self._teachers.items()}
        rows, self._layout = _name(features, targets)
        for name, tensor in rows.items():
            half = tensor.half()
            if not torch.isfinite(half).all():
                raise RunError(f"{self._folder}: {name} exceeds half precision; set cache: false in that stage")
            if name not in self._columns:
                path, shape = self._folder / f"{name}.npy", (self._length, *tensor.shape[1:])
                self._columns[name] = Column(path, shape=shape)
            self._columns[name].append(half.cpu().numpy())
        self.done += len(batch.names)
        self._notes += notes
        commit.fault("cached")

    def keep(self) -> None:
        """Bring the samples so far to the disk: whatever happens, filling goes on after them."""
        self._write(_PROGRESS, {"done": self.done})

    def finish(self) -> None:
        """Call the cache whole."""
        assert self.done == self._length
        self._write(_COMPLETE, {})
        (self._folder / _PROGRESS).unlink(missing_ok=True)

    def _write(self, mark: str, more: Mapping[str, Any]) -> None:
        for column in self._columns.values():
            column.settle()
        columns = {name: column.mark for name, column in self._columns.items()}
        said = {"of": self._of, "layout": self._layout, "notes": self._notes, "columns": columns, **more}
        commit.write_text(self._folder / mark, _render(said))

    def _go_on(self, poll: Poll) -> bool:
        """Take up what was kept of a cache of the same thing, as it was kept; whether there was such."""
        mark = _read(self._folder / _PROGRESS, of=self._of, poll=poll)
        if not mark:
            return False
        self.done, self._layout, self._notes = mark["done"], mark["layout"], mark["notes"]
        for name, column in mark["columns"].items():
            self._columns[name] = Column(self._folder / f"{name}.npy", **column)
        return True


class Cache:
    """Features and targets of one data set at one size. notes: what `Filler.add` was told."""

    def __init__(self, folder: Path, *, size: int, device: torch.device) -> None:
        self._size, self._device = size, device
        mark = _said(folder / _COMPLETE)
        self._layout = mark["layout"]
        self.notes: list[dict[str, Any]] = mark["notes"]
        self._arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in mark["columns"]}

    def features(self, indices: tuple[int, ...]) -> Features:
        """What the trunk gave for these samples, in a cache that has it."""
        maps = tuple(self._rows(f"map-{number}", indices) for number in range(self._layout["maps"]))
        return Features(maps=maps, summary=self._rows("summary", indices) if "summary" in self._arrays else None)

    def targets(self, indices: tuple[int, ...]) -> dict[str, Any]:
        """What the teachers said of these samples, by task."""
        targets: dict[str, Any] = {}
        for task, parts in self._layout["targets"].items():
            tensors = tuple(self._rows(f"target-{task}-{number}", indices) for number in range(max(parts, 1)))
            targets[task] = tensors if parts else tensors[0]
        return targets

    def blank(self, indices: tuple[int, ...], keys: tuple[int, ...]) -> Batch:
        """These samples without what a cache has not: pictures, masks, labels."""
        images = torch.zeros(1, 1, 1, 1, device=self._device).expand(len(indices), 3, self._size, self._size)
        return Batch(images=images, keys=keys, names=tuple(f"cached {index}" for index in indices))

    def _rows(self, name: str, indices: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self._arrays[name][list(indices)]).to(self._device).float()


def _name(features: Features | None, targets: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors by file name, and how to put them together again (0 parts: a bare tensor)."""
    maps = () if features is None else features.maps
    rows = {f"map-{number}": tensor for number, tensor in enumerate(maps)}
    if features is not None and features.summary is not None:
        rows["summary"] = features.summary
    parts = {}
    for task, target in targets.items():
        bare = torch.is_tensor(target)
        parts[task] = 0 if bare else len(target)
        rows |= {f"target-{task}-{number}": tensor for number, tensor in enumerate((target,) if bare else target)}
    return rows, {"maps": len(maps), "targets": parts}


def _render(said: Mapping[str, Any]) -> str:
    """A mark's text: what is said, and a checksum of it."""
    return json.dumps({"said": said, "crc32": zlib.crc32(json.dumps(said).encode())})


def _said(path: Path) -> dict[str, Any]:
    """What a mark says; nothing where there is none, or not as it was written."""
    try:
        text = path.read_text(encoding="utf-8")
        said: dict[str, Any] = json.loads(text)["said"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return said if _render(said) == text else {}


def _read(path: Path, *, of: Mapping[str, Any], poll: Poll) -> dict[str, Any]:
    """What a mark says if it is of that, and the columns beside it are what it says; else nothing."""
    said = _said(path)
    if not said or said["of"] != of:
        return {}
    whole = all(intact(path.with_name(f"{name}.npy"), mark, poll=poll) for name, mark in said["columns"].items())
    return said if whole else {}
