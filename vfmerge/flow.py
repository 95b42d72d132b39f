"""A stream at work in a stage: its batches with their teachers' targets, from the parents or from the cache."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import torch

from vfmerge import cache, progress
from vfmerge.adapter import Batch, Features
from vfmerge.errors import Stopped
from vfmerge.recipe import Stage, Stream
from vfmerge.session import Session, count_bad
from vfmerge.stream import Bad, Steps, batches

Inputs = Iterator[tuple[Features | None, dict[str, Any], Batch]]
"""Of each step: features or none, targets by task, batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow:
    """A stream's steps in a stage. number: its place among the stage's streams. caches: by size, or none."""

    session: Session
    plan: Stream
    number: int
    items: Steps
    caches: dict[int, cache.Cache] | None

    def steps(self, start: int, stop: int) -> Inputs:
        """What steps start..stop-1 learn from."""
        return self._from_teachers(start, stop) if self.caches is None else self._from_caches(self.caches, start, stop)

    def targets(self, task: str) -> Iterator[Any]:
        """What a teacher says of the stream's first batches, without end."""
        for step in itertools.count():
            if self.caches is not None:
                yield next(self._from_caches(self.caches, step, step + 1))[1][task]
                continue
            batch = self.items[step][0].to(str(self.session.device))
            with torch.no_grad(), self.session.autocast():
                target = self.session.teachers[task](batch)
            yield target

    def _from_caches(
        self, caches: dict[int, cache.Cache], start: int, stop: int
    ) -> Iterator[tuple[Features, dict[str, Any], Batch]]:
        for step in range(start, stop):
            planned = self.items.plan(step)
            yield caches[planned.size].read(planned.indices, self.items.keys(step))

    def _from_teachers(self, start: int, stop: int) -> Iterator[tuple[None, dict[str, Any], Batch]]:
        session = self.session
        loaded = batches(self.items, start=start, stop=stop, workers=session.recipe.workers)
        for step, (batch, bad) in zip(range(start, stop), loaded, strict=True):
            count_bad(session, bad, data=self.plan.data, seen=len(batch.names), step=session.done + step + 1)
            moved = batch.to(str(session.device))
            with torch.no_grad(), session.autocast():
                targets = {task: session.teachers[task](moved) for task in self.plan.tasks}
            yield None, targets, moved


def open_flow(session: Session, stage_name: str, stage: Stage, *, number: int, start: int) -> Flow:
    """Stream `number` of a stage that begins at step `start`, its caches filled if the stage wants them."""
    plan = stage.streams[number]
    items = Steps(session.sources[plan.data], plan, seed=session.recipe.seed, place=f"{stage_name}/{number}")
    if not stage.cache:
        return Flow(session=session, plan=plan, number=number, items=items, caches=None)
    caches = {}
    for size in plan.sizes:
        caches[size] = _open_cache(session, stage_name, items, number=number, size=size)
        if start == 0:  # a later start has them in its counts and lines
            bad = [Bad(**each) for each in caches[size].notes]
            count_bad(session, bad, data=plan.data, seen=len(items.source), step=session.done + 1)
    return Flow(session=session, plan=plan, number=number, items=items, caches=caches)


def _open_cache(session: Session, stage_name: str, items: Steps, *, number: int, size: int) -> cache.Cache:
    """Features and targets of every sample at one size, computed now unless an earlier start of the run did."""
    where = session.out / "cache" / f"{stage_name}-{number}-{size}"
    wanted = {
        "data": items.source.digest(),
        "fit": items.stream.fit,
        "trunk": cache.fingerprint(session.model.trunk),
        "precision": session.recipe.precision,
    }
    length = len(items.source)
    if not cache.holds(where, wanted):
        teachers = {task: session.teachers[task] for task in items.stream.tasks}
        title = f"{stage_name}: caching at {size} px"
        with progress.Bar(title, total=length, every=1024) as bar, session.autocast():
            filler = cache.Filler(where, length=length, trunk=session.model.trunk, teachers=teachers)
            for batch, bad in items.in_order(size=size):
                if session.request.name:
                    raise Stopped(f"{session.request.name}: stopped while filling a cache; run again to go on")
                filler.add(batch.to(str(session.device)), notes=[dataclasses.asdict(each) for each in bad])
                bar.advance(len(batch.names))
            filler.finish(wanted)
    return cache.Cache(where, size=size, device=session.device)
