"""A run at work: its recipe, its parts, and where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from vfmerge import folder, signals
from vfmerge.adapter import Adapter, AuxiliaryAdapter, Batch
from vfmerge.balance import Balance
from vfmerge.data.source import Source
from vfmerge.errors import RunError
from vfmerge.model import MergedModel, Network
from vfmerge.recipe import Recipe
from vfmerge.stream import Bad
from vfmerge.track import Tracker

_FIRST = 100  # before so many samples were seen, their share of bad ones says nothing


@dataclasses.dataclass(kw_only=True)
class Session:
    """All that a run holds while it trains."""

    recipe: Recipe
    out: Path
    device: torch.device
    adapters: dict[str, Adapter]
    sources: dict[str, Source]
    teachers: dict[str, Network]
    model: MergedModel
    request: signals.Request
    metrics: folder.Lines
    bad: folder.Lines
    tracker: Tracker
    balance: Balance | None = None  # of the stage at work, where it has one
    samples: dict[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # names, of the step's, by stream
    done: int = 0  # optimiser steps of finished stages
    skipped: int = 0  # steps without a finite gradient
    skipped_in_a_row: int = 0
    seen: int = 0  # samples
    unusable: int = 0  # of them

    def autocast(self) -> torch.autocast:
        """The recipe's precision for forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def target(self, task: str, batch: Batch) -> Any:
        """What a task's teacher says of a batch; none for a task that learns from labels."""
        return self.teachers[task](batch) if task in self.teachers else None

    def close(self) -> None:
        """Bring what was written to the files, however the run ended."""
        for each in (self.metrics, self.bad, self.tracker):
            each.close()


def begin(
    recipe: Recipe,
    out: Path,
    *,
    device: torch.device,
    adapters: dict[str, Adapter],
    sources: dict[str, Source],
    request: signals.Request,
) -> Session:
    """Read the parents and start the merged model from them."""
    torch.manual_seed(recipe.seed)
    parents = {name: each for name, each in adapters.items() if isinstance(each, AuxiliaryAdapter)}
    teachers = {name: adapter.teacher().requires_grad_(False).eval() for name, adapter in parents.items()}
    merged = MergedModel(adapters, base=recipe.base, seed=recipe.seed)
    merged.start(teachers)
    for teacher in teachers.values():
        teacher.to(device)
    return Session(
        recipe=recipe,
        out=out,
        device=device,
        adapters=adapters,
        sources=sources,
        teachers=teachers,
        model=merged.to(device),
        request=request,
        metrics=folder.Lines(out / folder.METRICS),
        bad=folder.Lines(out / folder.BAD),
        tracker=Tracker(out / "tensorboard"),
    )


def count_bad(session: Session, bad: Iterable[Bad], *, data: str, seen: int, step: int) -> None:
    """Count samples, list the unusable ones, and stop when they are more than the recipe allows."""
    session.seen += seen
    for each in bad:
        session.seen += 1
        session.unusable += 1
        session.bad.write({"step": step, "data": data, "sample": each.index, "reason": each.reason})
    if session.seen >= _FIRST and session.unusable > session.recipe.bad_samples * session.seen:
        session.bad.flush()
        raise RunError(
            f"{session.unusable} of {session.seen} samples are unusable, more than bad_samples="
            f"{session.recipe.bad_samples}; they are listed in {session.out / folder.BAD}: mend them, use --fresh"
        )
