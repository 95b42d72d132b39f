"""A run's checkpoints: `<run>/checkpoints/step-00000123/`, each committed whole, the newest two kept.

A checkpoint is `model.safetensors`, `optimizer.safetensors` and `state.json`; there is no pickle and no state of a
random generator, for randomness is a function of the step (`vfmerge.random`). Whoever saves or resumes holds `lock`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from torch import Tensor

from vfmerge import commit, weights
from vfmerge.errors import CheckpointError, InputError, RunError, one_line

SCHEMA = 1
KEPT = 2

JSON: TypeAlias = Any
"""None, bool, int, float, str, or lists and dicts of them."""


_locks: set[TextIO] = set()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint that verified. skipped: a line for each newer one that did not."""

    step: int
    path: Path
    state: Mapping[str, JSON]
    skipped: tuple[str, ...] = ()

    def model(self) -> dict[str, Tensor]:
        """The model's tensors, on the CPU."""
        return weights.load(self.path / "model.safetensors")

    def optimizer(self) -> dict[str, Tensor]:
        """The optimizer's tensors, on the CPU."""
        return weights.load(self.path / "optimizer.safetensors")


def save(
    run: Path, *, step: int, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: Mapping[str, JSON]
) -> Path:
    """Commit a checkpoint, then drop all but the newest two up to this step; returns its folder.

    `RunError`, and nothing written: a tensor is not finite, or the disk has less than twice the bytes to write. A disk
    that fills up all the same is a `RunError` too. The checkpoints before are as they were.
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    weights.require_finite(model, source=str(folder))
    weights.require_finite(optimizer, source=str(folder))
    text = json.dumps({"schema": SCHEMA, "step": step, "state": dict(state)}, indent=1)
    _require_space(run, size=sum(t.nbytes for t in (*model.values(), *optimizer.values())) + len(text))

    def write(temporary: Path) -> None:
        weights.save(temporary / "model.safetensors", model)
        weights.save(temporary / "optimizer.safetensors", optimizer)
        (temporary / "state.json").write_text(text, encoding="utf-8")

    commit.commit(folder, write)
    older = [path for path in _folders(run) if _step(path) <= step]
    for path in older[:-KEPT]:
        commit.remove(path)
    commit.fault("dropped")
    return folder


def newest(run: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies, or none if there is none; a damaged newer one is renamed `.bad-*`.

    Cleans up after a killed `save` first. `InputError` for one of a newer vfmerge. If all are damaged, once a
    `CheckpointError`: starting afresh in silence would hide the loss.
    """
    _recover(run)
    skipped: list[str] = []
    for folder in reversed(_folders(run)):
        try:
            commit.verify(folder)
            state = _read_state(folder)
        except CheckpointError as error:
            skipped.append(one_line(f"{error}; now {_set_aside(folder).name}"))
            continue
        return Checkpoint(step=_step(folder), path=folder, state=state, skipped=tuple(skipped))
    if skipped:
        raise CheckpointError(one_line(f"{run}: no checkpoint is whole; run again to start afresh; {skipped[0]}"))
    return None


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Hold a run's folder (made if need be) against other processes; `InputError` names the process that has it.

    The kernel lets go when this process dies, however it dies.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(20)
            raise InputError(one_line(f"{run}: in use by process {holder}; wait for it, or stop it")) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        _locks.add(file)
        try:
            yield
        finally:
            _locks.discard(file)


def _let_go() -> None:
    """In a fork: a loader's worker that outlives a killed parent must not keep the run from being resumed."""
    for file in _locks:
        file.close()
    _locks.clear()


os.register_at_fork(after_in_child=_let_go)


def _require_space(run: Path, *, size: int) -> None:
    run.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(run).free
    if free < 2 * size:
        raise RunError(
            one_line(f"{run}: a checkpoint needs {2 * size} bytes free, not {free}; make room and run again")
        )


def _read_state(folder: Path) -> Mapping[str, JSON]:
    try:
        content = json.loads((folder / "state.json").read_bytes())
        schema, state = int(content["schema"]), dict(content["state"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(one_line(f"{folder}: state.json is not a checkpoint's; take an older one")) from error
    if schema > SCHEMA:
        raise InputError(one_line(f"{folder}: made by a newer vfmerge (schema {schema} > {SCHEMA}); upgrade vfmerge"))
    return state


def _folders(run: Path) -> list[Path]:
    """The folders of committed checkpoints, oldest first."""
    return sorted((p for p in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d{8,}", p.name)), key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _recover(run: Path) -> None:
    for left in (run / "checkpoints").glob(".*-step-*"):
        if match := re.fullmatch(r"\.(?:tmp|old)-(step-\d{8,})", left.name):
            commit.recover(left.with_name(match[1]))


def _set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint; it is kept, for a person may still want to look at it."""
    number = 1
    while (bad := folder.with_name(f".bad-{folder.name}" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    return folder.rename(bad)
