"""A stream at work in a stage: its batches with their teachers' targets, from the parents or from the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch

from vfmerge import cache, column, memory, progress, weights
from vfmerge.adapter import Batch, Features
from vfmerge.errors import Stopped
from vfmerge.recipe import Kept, Stage, Stream
from vfmerge.session import Session, count_bad
from vfmerge.stream import Bad, Steps, batches, in_order

_EVERY = 1024  # samples between lines without a terminal

Inputs = Iterator[tuple[Features | None, dict[str, Any], Batch]]
"""Of each step: features or none, targets by task, batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow:
    """A stream's steps in a stage, called `stage`. number: its place among the stage's streams.

    kept: what of them is read from caches instead of computed. caches: by size, none where nothing is.
    """

    session: Session
    stage: str
    plan: Stream
    number: int
    items: Steps
    kept: Kept
    caches: dict[int, cache.Cache]

    def steps(self, start: int, stop: int) -> Inputs:
        """What steps start..stop-1 learn from."""
        return self._from_caches(start, stop) if self.kept is True else self._from_pictures(start, stop)

    def targets(self, task: str) -> Generator[Any, None, None]:
        """What a teacher says of the stream's first batches, without end. Raises Stopped on request."""
        with progress.Bar(f"{self.stage}: calibrating {task}", total=None, every=_EVERY) as bar:
            targets = self._stored_targets(task) if self.caches else self._asked_targets(task)
            while True:
                _heed(self.session, doing="calibrating")
                yield next(targets)
                bar.advance(self.plan.batch)

    def _stored_targets(self, task: str) -> Iterator[Any]:
        return (self._stored(step)[task] for step in itertools.count())

    def _asked_targets(self, task: str) -> Iterator[Any]:
        loaded = batches(self.items, start=0, stop=None, workers=self.session.recipe.workers)
        with contextlib.closing(loaded):
            for batch, _ in loaded:
                moved = batch.to(str(self.session.device))
                with torch.no_grad(), self.session.autocast():
                    target = self.session.target(task, moved)
                yield target

    def _from_caches(self, start: int, stop: int) -> Iterator[tuple[Features, dict[str, Any], Batch]]:
        for step in range(start, stop):
            planned = self.items.plan(step)
            stored = self.caches[planned.size]
            blank = stored.blank(planned.indices, self.items.keys(step))
            yield stored.features(planned.indices), self._stored(step), blank

    def _from_pictures(self, start: int, stop: int) -> Iterator[tuple[None, dict[str, Any], Batch]]:
        session = self.session
        loaded = batches(self.items, start=start, stop=stop, workers=session.recipe.workers)
        for step, (batch, bad) in zip(range(start, stop), loaded, strict=True):
            count_bad(session, bad, data=self.plan.data, seen=len(batch.names), step=session.done + step + 1)
            moved = batch.to(str(session.device))
            yield None, self._stored(step) if self.caches else self._asked(moved), moved

    def _stored(self, step: int) -> dict[str, Any]:
        """The step's targets by task, from a cache; none of a task that has no teacher."""
        planned = self.items.plan(step)
        return dict.fromkeys(self.plan.tasks) | self.caches[planned.size].targets(planned.indices)

    def _asked(self, batch: Batch) -> dict[str, Any]:
        """The same, from the teachers."""
        with torch.no_grad(), self.session.autocast():
            return {task: self.session.target(task, batch) for task in self.plan.tasks}


def open_flow(session: Session, stage_name: str, stage: Stage, *, number: int, start: int) -> Flow:
    """Stream `number` of a stage that begins at step `start`, its caches filled if the stage wants them."""
    plan = stage.streams[number]
    items = Steps(session.sources[plan.data], plan, seed=session.recipe.seed, place=f"{stage_name}/{number}")
    caches: dict[int, cache.Cache] = {}
    if stage.cache is True or (stage.cache and session.teachers.keys() & plan.tasks.keys()):
        for size in plan.sizes:
            caches[size] = _open_cache(session, stage_name, items, kept=stage.cache, number=number, size=size)
    if start == 0 and stage.cache is True:  # a later start has them in its counts and lines; pictures are read but once
        for each in caches.values():
            bad = [Bad(**note) for note in each.notes]
            count_bad(session, bad, data=plan.data, seen=len(items.source), step=session.done + 1)
    return Flow(
        session=session, stage=stage_name, plan=plan, number=number, items=items, kept=stage.cache, caches=caches
    )


def _open_cache(session: Session, stage_name: str, items: Steps, *, kept: Kept, number: int, size: int) -> cache.Cache:
    """What is kept of every sample at one size, computed now unless an earlier start of the run did."""
    folder = cache.place(session.out, stage=stage_name, number=number, size=size)
    trunk = session.model.trunk if kept is True else None
    wanted = {
        "data": items.source.digest(),
        "fit": items.stream.fit,
        "trunk": None if trunk is None else weights.fingerprint(trunk),
        "precision": session.recipe.precision,
    }

    def poll() -> None:
        _heed(session, doing="looking through a cache")
        bar.advance()

    title = f"{stage_name}: looking through the cache at {size} px"
    with progress.Bar(title, total=column.pieces(folder), every=_EVERY) as bar:
        if cache.holds(folder, wanted, poll=poll):
            return cache.Cache(folder, size=size, device=session.device)
        teachers = {task: session.teachers[task] for task in items.stream.tasks if task in session.teachers}
        length = len(items.source)
        filler = cache.Filler(folder, length=length, trunk=trunk, teachers=teachers, of=wanted, poll=poll)
    with memory.watch_stream(stage_name, number, items.stream, doing="while its cache is filled"):
        _fill(session, filler, items, size=size, title=f"{stage_name}: caching at {size} px")
    return cache.Cache(folder, size=size, device=session.device)


def _fill(session: Session, filler: cache.Filler, items: Steps, *, size: int, title: str) -> None:
    """Compute what is missing; as often as checkpoints are written, what there is is safe from whatever happens."""
    clock = time.monotonic()
    length = len(items.source)
    loaded = in_order(items, size=size, start=filler.done, workers=session.recipe.workers)
    with (
        progress.Bar(title, total=length, done=filler.done, every=_EVERY) as bar,
        contextlib.closing(loaded),
        session.autocast(),
    ):
        for batch, bad in loaded:
            if session.request.name:
                filler.keep()
            _heed(session, doing="filling a cache")
            filler.add(batch.to(str(session.device)), notes=[dataclasses.asdict(each) for each in bad])
            bar.advance(len(batch.names))
            if time.monotonic() - clock > 60 * session.recipe.save_minutes:
                filler.keep()
                clock = time.monotonic()
    filler.finish()


def _heed(session: Session, *, doing: str) -> None:
    """Raise Stopped if somebody asked to stop."""
    if session.request.name:
        raise Stopped(f"{session.request.name}: stopped while {doing}; run again to go on")
