"""What a model keeps beside its parameters: statistics of targets, and of batches where it has batch norms."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from vfmerge import memory
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.flow import Flow
from vfmerge.session import Session


def calibrate(session: Session, name: str, flows: list[Flow]) -> None:
    """Let heads that no earlier stage than this one taught take their targets' statistics."""
    stages = list(session.recipe.stages)
    earlier = [session.recipe.stages[each] for each in stages[: stages.index(name)]]
    taught = {task for stage in earlier for stream in stage.streams for task in stream.tasks}
    for flow in flows:
        for task in flow.plan.tasks:
            adapter = session.adapters[task]
            if task not in taught and isinstance(adapter, AuxiliaryAdapter):
                enough = memory.watch_stream(name, flow.number, flow.plan, doing=f"while {task} is calibrated")
                with enough, contextlib.closing(flow.targets(task)) as targets:  # whoever loads for it ends with it
                    adapter.calibrate(session.model.heads[task], targets)
                taught.add(task)


@torch.no_grad()
def observe(session: Session, targets: dict[str, Any]) -> None:
    """Show their targets to heads that learn, for statistics of them that run; a frozen head stays as it is."""
    for task, target in targets.items():
        adapter, head = session.adapters[task], session.model.heads[task]
        if head.training and isinstance(adapter, AuxiliaryAdapter):
            adapter.observe(head, target)


def copy(model: nn.Module) -> dict[str, Tensor]:
    """All of a model's buffers by name, those that are not saved too."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@torch.no_grad()
def put_back(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Give buffers the values that `copy` found; one that came or grew since, a cache of positions, stays."""
    for name, buffer in model.named_buffers():
        if name in before and before[name].shape == buffer.shape:
            buffer.copy_(before[name])
