"""A run's folder: the resolved recipe, the manifest, the metrics and the bad samples.

recipe.yaml        the resolved recipe            metrics.jsonl      a line per optimiser step
manifest.json      hashes, versions, licences     bad_samples.jsonl  what was skipped, and why
checkpoints/       the newest two                 merged/            the model; retention.json, picture.png
"""

from __future__ import annotations

import bisect
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vfmerge import checkpoint, commit, plugins, recipe, weights
from vfmerge.adapter import Adapter
from vfmerge.data.source import Source
from vfmerge.errors import InputError, one_line
from vfmerge.papers import RECIPE
from vfmerge.recipe import Recipe

MANIFEST, METRICS, BAD = "manifest.json", "metrics.jsonl", "bad_samples.jsonl"
_FIXED = ("recipe", "weights", "data", "seed", "plugins")  # what must not change between a run and its resumption
_LIBRARIES = ("vfmerge", "torch", "torchvision", "numpy", "pillow", "safetensors", "timm", "open_clip_torch")


def claim(out: Path, plan: Recipe, *, fresh: bool) -> None:
    """Make the folder of a run, or see that the one there is of the same recipe; `fresh` moves that aside.

    Raises InputError for a folder that is no run, of another recipe, or cannot be made; for a run at work, if `fresh`.
    """
    try:
        if fresh and _is_run(out):
            _set_aside(out)
        check_recipe(out, plan)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(one_line(f"{out}: cannot be used ({error.strerror}); give --out another folder")) from None


def _set_aside(out: Path) -> None:
    number = 1
    while (aside := out.with_name(f"{out.name}.old-{number}")).exists():
        number += 1
    with checkpoint.lock(out):
        os.replace(out, aside)
    print(f"the run before is now {aside}", file=sys.stderr)


def open_run(out: Path, plan: Recipe, *, adapters: Mapping[str, Adapter], sources: Mapping[str, Source]) -> None:
    """Start a run folder, or make sure that an existing one is of the same recipe, weights and data.

    Raises InputError naming the keys that differ.
    """
    check_recipe(out, plan)
    now = manifest(plan, adapters=adapters, sources=sources)
    path = out / MANIFEST
    if path.exists():
        _compare(path, now)
        return
    commit.write_text(out / RECIPE, recipe.resolved(plan))
    commit.write_text(path, json.dumps(now, indent=2) + "\n")


def check_recipe(out: Path, plan: Recipe) -> None:
    """Refuse a folder of another recipe, or one that is no run at all."""
    if not _is_run(out):
        return
    changed = recipe.differences(recipe.load(str(out / RECIPE), []), plan)
    if changed:
        keys = ", ".join(changed[:6]) + (f" and {len(changed) - 6} more" if len(changed) > 6 else "")
        raise InputError(f"{out}: was run with another recipe ({keys}); use --fresh to start over, or another --out")


def _is_run(out: Path) -> bool:
    """Whether a run began here, or nothing is here yet. Raises InputError for anything else."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise InputError(one_line(f"{out}: is a file; give --out a folder"))
    if all(path.name.startswith(".") for path in out.iterdir()):  # a lock is no run yet
        return False
    if not (out / RECIPE).exists():
        raise InputError(one_line(f"{out}: has files but is no run; give --out another folder"))
    return True


def manifest(plan: Recipe, *, adapters: Mapping[str, Adapter], sources: Mapping[str, Source]) -> dict[str, Any]:
    """What fixes a run's result, and what one wants to know of it later. No absolute path of this machine."""
    return {
        "schema": 1,
        "recipe": recipe.fingerprint(plan),
        "seed": plan.seed,
        "weights": {
            name: {source.name: weights.digest(source) for source in adapter.sources}
            for name, adapter in adapters.items()
        },
        "data": {name: {"samples": len(source), "sha256": source.digest()} for name, source in sources.items()},
        "plugins": _local_files(adapters),
        "licences": {name: adapter.licence for name, adapter in adapters.items()},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _local_files(adapters: Mapping[str, Adapter]) -> dict[str, dict[str, str]]:
    """The files of parents whose adapters were added by --plugin: name and sha256, by parent."""
    files = {name: plugins.file_of(type(adapter)) for name, adapter in adapters.items()}
    return {name: {file.name: weights.digest(file)} for name, file in files.items() if file is not None}


def _compare(path: Path, now: Mapping[str, Any]) -> None:
    try:
        then = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise InputError(one_line(f"{path}: damaged; use --fresh to start over, or another --out")) from None
    for key in _FIXED:
        if then.get(key, {}) != now[key]:  # runs of before had no plugins to note
            raise InputError(f"{path}: {key} changed since this run began; use --fresh to start over, or another --out")


class Lines:
    """A file of JSON lines, each with its `step` and none of an earlier step than the one before, to be wound back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a")

    def write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def rewind(self, step: int) -> None:
        """Drop every line of a later step than this one: a resumed run writes them again."""
        self._file.close()
        with self._path.open("r+b") as file:
            file.truncate(_end(file, step))
        commit.sync(self._path)
        self._file = self._path.open("a")


def _end(file: BinaryIO, step: int) -> int:
    """Where the lines up to a step end, in bytes. They are in order: a few of millions are read."""

    def seek_line(offset: int) -> None:
        """To the first line that begins there or later."""
        file.seek(max(offset - 1, 0))
        if offset:
            file.readline()

    def is_later(offset: int) -> bool:
        seek_line(offset)
        line = file.readline()
        try:
            return not line.endswith(b"\n") or bool(json.loads(line)["step"] > step)
        except (ValueError, KeyError, TypeError):  # what a power cut left of lines after the last `flush`
            return True

    size = file.seek(0, os.SEEK_END)
    seek_line(bisect.bisect_left(range(size + 1), True, key=is_later))
    return file.tell()
