"""The engine: stages in order, the step, and what is kept on disk. Read it from top to bottom.

It knows adapters, heads and teachers by their interfaces alone. The base is nothing special: its teacher is its own
frozen original. A task that learns from labels is one whose target is none.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vfmerge import (
    check,
    checkpoint,
    dropping,
    evaluation,
    folder,
    forecast,
    measurement,
    memory,
    model,
    optimizer,
    parts,
    progress,
    random,
    signals,
    statistics,
)
from vfmerge.adapter import Batch, Features
from vfmerge.balance import Balance
from vfmerge.errors import CheckpointError, RunError, Stopped
from vfmerge.flow import Flow, Inputs, open_flow
from vfmerge.recipe import Recipe, Stage, Stream
from vfmerge.session import Session, begin

_IN_A_ROW = 10  # so many steps without a finite gradient stop the run
_TRAIN_LESS = "the last checkpoint is good: free memory and run again, or train fewer parameters and use --fresh"


def run(recipe: Recipe, out: Path, *, name: str, fresh: bool = False, device: str = "auto") -> None:
    """Everything that `vfmerge run` does: `merge`, and say what was found."""
    merge(recipe, out, name=name, fresh=fresh, device=device)
    evaluation.show_finished(out, name=name)


def merge(recipe: Recipe, out: Path, *, name: str, fresh: bool = False, device: str = "auto") -> None:
    """Train, save, and measure. Started again, it goes on where it was; a finished run is left as it is.

    What to `evaluate` may change: then a run is trained on, or measured, as the recipe says now.
    Raises InputError before any work, RunError for a fault, Stopped on request.
    """
    adapters, sources = parts.build_adapters(recipe), parts.build_sources(recipe)
    check.require(recipe, adapters, sources)
    place = model.on(device)
    folder.claim(out, recipe, fresh=fresh)
    with checkpoint.lock(out), signals.watch() as request:
        folder.open_run(out, recipe, adapters=adapters, sources=sources)
        if not evaluation.is_finished(out, recipe):
            session = begin(recipe, out, device=place, adapters=adapters, sources=sources, request=request)
            with contextlib.closing(session):
                measurement.require_roles(recipe, session.model.capabilities())
                evaluation.adopt(out, recipe)
                if evaluation.is_trained(out):
                    evaluation.take_up(session)
                else:
                    train(session)
                    evaluation.save_merged(session, name=name)
                evaluation.finish(session)


def train(session: Session) -> None:
    """All stages, from the newest checkpoint on."""
    plans = session.recipe.stages
    for stage in plans.values():  # what is wrong with the last stage is said before the first
        optimizer.trainable(session.model, stage)
    saved = checkpoint.newest(session.out)
    resumed = restore(session, saved)
    forecast.require_room(session, after=resumed)
    for stage_name, stage in plans.items():
        session.balance = None
        steps = stage.total_steps(len(session.sources[stage.streams[0].data]))
        if session.done + steps > resumed:
            train_stage(session, stage_name, stage, steps=steps, start=max(resumed - session.done, 0), saved=saved)
        session.done += steps


def restore(session: Session, saved: checkpoint.Checkpoint | None) -> int:
    """Put the model and the counts back; the number of optimiser steps that are done."""
    step = saved.step if saved else 0
    session.metrics.rewind(step)
    session.bad.rewind(step)
    session.tracker.rewind(step)
    if saved:
        print(*saved.skipped, f"going on after step {step}", sep="\n", file=sys.stderr)
        missing, unknown = session.model.load_state_dict(saved.model(), strict=False)
        if unknown or set(missing) - session.model.fixed:
            raise CheckpointError(f"{saved.path}: is of a model with other parts; start over with --fresh")
        session.skipped, session.skipped_in_a_row = saved.state["skipped"], saved.state["skipped_in_a_row"]
        session.seen, session.unusable = saved.state["seen"], saved.state["unusable"]
    return step


def train_stage(
    session: Session, name: str, stage: Stage, *, steps: int, start: int, saved: checkpoint.Checkpoint | None
) -> None:
    """One stage: freeze, step, and keep what was learnt."""
    optimizer.freeze(session.model, stage)
    adamw = optimizer.build(session.model, stage, session.recipe.optimizer)
    if saved and start:
        optimizer.restore(adamw, saved.optimizer())
    flows = [open_flow(session, name, stage, number=n, start=start) for n in range(len(stage.streams))]
    if stage.balance:
        session.balance = Balance(saved.state["balance"] if saved and start else None)
    if start == 0:
        statistics.calibrate(session, name, flows)
    inputs = [flow.steps(start, steps) for flow in flows]
    clock = time.monotonic()
    with progress.Bar(name, total=steps, done=start, every=session.recipe.log_every) as bar:
        for step in range(start, steps):
            torch.manual_seed(random.key(session.recipe.seed, name, step))  # for what draws as it learns, as dropout
            rates = optimizer.set_rates(adamw, stage, step=step, steps=steps)
            adamw.zero_grad(set_to_none=True)
            before = statistics.copy(session.model)
            terms = learn_all(session, flows, inputs, stage=name)
            norm = apply(session, adamw, terms, largest=stage.clip or session.recipe.clip or math.inf)
            if session.skipped_in_a_row:  # what was not finite would stay in running statistics for ever
                statistics.put_back(session.model, before)
            record(session, stage=name, step=session.done + step + 1, terms=terms, rates=rates, norm=norm)
            bar.advance(note=f"loss {sum(terms.values()):.4f}")
            last = step + 1 == steps
            if last or session.request.name or due(session.recipe, step=session.done + step + 1, since=clock):
                keep(session, adamw, step=session.done + step + 1)
                clock = time.monotonic()
            if session.request.name and not last:
                raise Stopped(
                    f"{session.request.name}: stopped after step {session.done + step + 1}; run again to go on"
                )


def learn_all(session: Session, flows: list[Flow], inputs: list[Inputs], *, stage: str) -> dict[str, float]:
    """Forward and backward of every stream, one stream's graph in memory at a time. Their loss terms."""
    terms: dict[str, float] = {}
    session.samples.clear()
    for flow, each in zip(flows, inputs, strict=True):
        with memory.watch_stream(stage, flow.number, flow.plan):
            terms |= learn(session, flow.plan, *next(each), number=flow.number)
    return terms


def learn(
    session: Session, plan: Stream, features: Features | None, targets: dict[str, Any], batch: Batch, *, number: int
) -> dict[str, float]:
    """One stream's forward and backward: the trunk once, however many tasks share it. The weighted loss terms."""
    session.samples[number] = batch.names
    losses: dict[str, dict[str, Tensor]] = {}
    with session.autocast():
        features = features or session.model.trunk(batch.images)
        for task, weight in plan.tasks.items():
            answer = session.model.heads[task](features, batch)
            marked = session.adapters[task].loss(answer, targets[task], batch)
            losses[task] = {term: weight * values for term, values in marked.items()}
    if plan.drop:
        losses = dropping.drop(losses, chance=plan.drop, keys=batch.keys)
    terms = {task: {term: mean(values) for term, values in named.items()} for task, named in losses.items()}
    totals = {task: torch.stack(list(named.values())).sum() for task, named in terms.items()}
    if session.balance:
        for task, weight in plan.tasks.items():  # by the mean of the loss without its weight, which would cancel
            totals[task] = totals[task] * session.balance.factor(f"{number}.{task}", totals[task].item() / weight)
    torch.stack(list(totals.values())).sum().backward()  # type: ignore[no-untyped-call]
    statistics.observe(session, targets)
    return {f"{number}.{task}.{term}": value.item() for task, named in terms.items() for term, value in named.items()}


def mean(values: Tensor) -> Tensor:
    """The mean over samples; zero, with a gradient, where a batch has none (no masks in any picture)."""
    return values.float().sum() / max(values.numel(), 1)


def apply(session: Session, adamw: torch.optim.AdamW, terms: dict[str, float], *, largest: float) -> float:
    """The one optimiser step on the gradients of all streams, unless something is not finite. The gradient's norm.

    largest: norm that a greater gradient is scaled down to.
    """
    parameters = [parameter for group in adamw.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, largest).item()
    if math.isfinite(norm) and all(math.isfinite(value) for value in terms.values()):
        with memory.watch("optimizer", doing="in its step", remedy=_TRAIN_LESS):
            adamw.step()
        session.skipped_in_a_row = 0
        return norm
    session.skipped += 1
    session.skipped_in_a_row += 1
    if session.skipped_in_a_row >= _IN_A_ROW:
        worst = ", ".join(term for term, value in terms.items() if not math.isfinite(value)) or "the gradient"
        raise RunError(
            f"{_IN_A_ROW} steps in a row without a finite gradient ({worst}); the last checkpoint is good: "
            f"lower the rates or the weight of that loss, and start over with --fresh"
        )
    return norm


def record(
    session: Session, *, stage: str, step: int, terms: dict[str, float], rates: dict[str, float], norm: float
) -> None:
    """One line of metrics for the step; of one that was not made, also the names of its samples, by stream."""
    line: dict[str, Any] = {"step": step, "stage": stage, "loss": sum(terms.values())}
    line |= {f"loss.{term}": value for term, value in terms.items()}
    line |= {f"rate.{prefix}": rate for prefix, rate in rates.items()}
    line |= {"gradient_norm": norm, "skipped": session.skipped}
    if session.skipped_in_a_row:
        line |= {f"samples.{number}": names for number, names in session.samples.items()}
    finite = {
        key: value if not isinstance(value, float) or math.isfinite(value) else None for key, value in line.items()
    }
    session.metrics.write(finite)
    session.tracker.write(finite)


def due(recipe: Recipe, *, step: int, since: float) -> bool:
    """Whether it is time for a checkpoint: by steps where the recipe says so, else by minutes."""
    if recipe.save_steps is not None:
        return step % recipe.save_steps == 0
    return time.monotonic() - since > 60 * recipe.save_minutes


def keep(session: Session, adamw: torch.optim.AdamW, *, step: int) -> None:
    """A checkpoint: what can be trained, the optimiser, counts and means. Lines of metrics are on disk before it."""
    session.metrics.flush()
    session.bad.flush()
    learnt = {name: tensor for name, tensor in session.model.state_dict().items() if name not in session.model.fixed}
    state: dict[str, Any] = {"skipped": session.skipped, "skipped_in_a_row": session.skipped_in_a_row}
    state |= {"seen": session.seen, "unusable": session.unusable}
    state["balance"] = session.balance.state if session.balance else {}
    checkpoint.save(session.out, step=step, model=learnt, optimizer=optimizer.tensors(adamw), state=state)
