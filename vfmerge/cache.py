"""Frozen features and targets of every sample, once on disk instead of once a step.

While the trunk is frozen and pictures are not augmented, neither a trunk's features nor a teacher's target change: a
head-probing stage then costs only its head. Arrays are plain `.npy` files of half precision, read by memory map.

Axis letters: B samples of a batch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfmerge import commit
from vfmerge.adapter import Batch, Features
from vfmerge.errors import RunError
from vfmerge.model import Network

_COMPLETE = "complete.json"  # written last: a cache without it is no cache


def holds(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the folder is a whole cache of just this: `wanted` is what features and targets depend on, as JSON."""
    mark = folder / _COMPLETE
    return mark.exists() and bool(json.loads(mark.read_text())["of"] == wanted)


class Filler:
    """Computes a cache batch by batch, the samples in their order."""

    def __init__(self, folder: Path, *, length: int, trunk: torch.nn.Module, teachers: Mapping[str, Network]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder, self._length, self._trunk, self._teachers = folder, length, trunk, teachers
        self._arrays: dict[str, np.memmap[Any, Any]] = {}
        self._layout: dict[str, Any] = {}
        self._notes: list[Mapping[str, Any]] = []
        self._first = 0

    @torch.no_grad()
    def add(self, batch: Batch, *, notes: Sequence[Mapping[str, Any]]) -> None:
        """The next samples; notes are kept beside them. Raises RunError if a value does not fit half precision."""
        features = self._trunk(batch.images)
        targets = {task: teacher(batch) for task, teacher in self._teachers.items()}
        rows, self._layout = _name(features, targets)
        for name, tensor in rows.items():
            half = tensor.half()
            if not torch.isfinite(half).all():
                raise RunError(f"{self._folder}: {name} exceeds half precision; set cache: false in that stage")
            if name not in self._arrays:
                shape, path = (self._length, *tensor.shape[1:]), self._folder / f"{name}.npy"
                self._arrays[name] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            self._arrays[name][self._first : self._first + len(half)] = half.cpu().numpy()
        self._first += len(batch.names)
        self._notes += notes
        commit.fault("cached")

    def finish(self, of: Mapping[str, Any]) -> None:
        """Call the cache whole, and a cache of this."""
        assert self._first == self._length
        for array in self._arrays.values():
            array.flush()
        mark = {"of": dict(of), "layout": self._layout, "notes": self._notes}
        commit.write_text(self._folder / _COMPLETE, json.dumps(mark))


class Cache:
    """Features and targets of one data set at one size. notes: what `Filler.add` was told."""

    def __init__(self, folder: Path, *, size: int, device: torch.device) -> None:
        self._size, self._device = size, device
        mark = json.loads((folder / _COMPLETE).read_text())
        self._layout = mark["layout"]
        self.notes: list[dict[str, Any]] = mark["notes"]
        self._arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}

    def read(self, indices: tuple[int, ...], keys: tuple[int, ...]) -> tuple[Features, dict[str, Any], Batch]:
        """What the trunk and the teachers gave for these samples; the batch's pictures are blank."""
        rows = {name: self._gather(array, indices) for name, array in self._arrays.items()}
        maps = tuple(rows[f"map-{number}"] for number in range(self._layout["maps"]))
        targets: dict[str, Any] = {}
        for task, parts in self._layout["targets"].items():
            tensors = tuple(rows[f"target-{task}-{number}"] for number in range(max(parts, 1)))
            targets[task] = tensors if parts else tensors[0]
        blank = torch.zeros(1, 1, 1, 1, device=self._device).expand(len(indices), 3, self._size, self._size)
        sizes = torch.full((len(indices), 2), self._size)
        names = tuple(f"cached {index}" for index in indices)
        features = Features(maps=maps, summary=rows.get("summary"))
        return features, targets, Batch(images=blank, sizes=sizes, keys=keys, names=names)

    def _gather(self, array: np.ndarray, indices: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(array[list(indices)]).to(self._device).float()


def _name(features: Features, targets: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors by file name, and how to put them together again (0 parts: a bare tensor)."""
    rows = {f"map-{number}": tensor for number, tensor in enumerate(features.maps)}
    if features.summary is not None:
        rows["summary"] = features.summary
    parts = {}
    for task, target in targets.items():
        bare = torch.is_tensor(target)
        parts[task] = 0 if bare else len(target)
        rows |= {f"target-{task}-{number}": tensor for number, tensor in enumerate((target,) if bare else target)}
    return rows, {"maps": len(features.maps), "targets": parts}


def fingerprint(module: torch.nn.Module) -> str:
    """SHA-256 over a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
